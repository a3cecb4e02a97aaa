"""Count operations, and those whose result the host must wait for: on a GPU each of them stops the queue of kernels."""

from __future__ import annotations

from collections import Counter
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

# Their result has a shape, or is a number of the host, that the values decide (also .item(), bool() and int()).
_TAGS = {torch.Tag.dynamic_output_shape, torch.Tag.data_dependent_output}
# Untagged, since their shape is known; their kernels read a value back to check it.
_CHECKED = {torch.ops.aten.multinomial}
_INDEXING = {torch.ops.aten.index, torch.ops.aten.index_put, torch.ops.aten.index_put_, torch.ops.aten._index_put_impl_}


class HostWaits(TorchDispatchMode):
    """Counts them by name in ``found`` while it is active, in the forward and in the backward; ``operations`` are all.

    It sees the same operations on a CPU, where nothing waits. Copies between host and device are not seen: on CUDA
    ``torch.cuda.set_sync_debug_mode("error")`` raises for those, too.
    """

    def __init__(self) -> None:
        super().__init__()
        self.found: Counter[str] = Counter()
        self.operations = 0

    @property
    def total(self) -> int:
        """How many the host waits for."""
        return sum(self.found.values())

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.operations += 1
        if waits(func, args):
            self.found[func._overloadpacket.__name__] += 1
        return func(*args, **(kwargs or {}))


def waits(func: Any, args: Any) -> bool:
    """Whether the host must wait for ``func`` of ``args``."""
    packet = func._overloadpacket
    if packet in _INDEXING:  # by a mask, which has as many places as it has ones
        masks = (leaf for leaf in tree_leaves(args[1]) if isinstance(leaf, Tensor))
        return any(mask.dtype in (torch.bool, torch.uint8) for mask in masks)
    return packet in _CHECKED or bool(_TAGS & set(func.tags))
