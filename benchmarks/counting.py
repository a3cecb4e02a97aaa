"""FLOPs of a step by part of the model, without computing its matrix products."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.nn.modules.module import register_module_forward_hook, register_module_forward_pre_hook
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_map_only
from torch.utils.flop_counter import FlopCounterMode, flop_registry

# The part of what no named module does itself.
OTHER = "other"


def count_flops(step: Callable[[], Tensor], parts: Mapping[str, Sequence[nn.Module]]) -> dict[str, int]:
    """FLOPs of matrix products and convolutions in the forward and backward of ``step``, which returns a loss.

    Counted by torch's FlopCounterMode with the plain attention, so that both of its products are seen. The products
    themselves are skipped (:class:`SkippedProducts`): their shapes are real, as is everything that decides on shapes,
    so the count is that of the real step at a fraction of its time and memory.

    Returns:
        FLOPs by part, forward and backward of its modules; ``OTHER`` is what no module of ``parts`` does.

    Raises:
        RuntimeError: the parts do not add up to FlopCounterMode's total.
    """
    skipped, counter = SkippedProducts(parts), FlopCounterMode(display=False)
    with sdpa_kernel(SDPBackend.MATH), skipped.watch(), dropped_activations(), skipped, counter:
        step().backward()
    if sum(skipped.flops.values()) != counter.get_total_flops():
        raise RuntimeError(f"{dict(skipped.flops)} do not add up to {counter.get_total_flops()} FLOPs")
    return dict(skipped.flops)


def count_products(call: Callable[[], object], parts: Mapping[str, Sequence[nn.Module]]) -> dict[str, int]:
    """FLOPs of the products of ``call`` by part, which are skipped; no backward pass is made."""
    skipped = SkippedProducts(parts)
    with sdpa_kernel(SDPBackend.MATH), skipped.watch(), skipped:
        call()
    return dict(skipped.flops)


class SkippedProducts(TorchDispatchMode):
    """Answers every matrix product with zeros of its shape, and notes its FLOPs under the part that asked for it."""

    def __init__(self, parts: Mapping[str, Sequence[nn.Module]]) -> None:
        super().__init__()
        self.flops: defaultdict[str, int] = defaultdict(int)
        self._part_of = {id(m): name for name, roots in parts.items() for root in roots for m in root.modules()}
        self._running = [OTHER]
        self._part_of_node: dict[int, str] = {}

    @contextmanager
    def watch(self) -> Iterator[None]:
        """Follow which module runs."""
        before = register_module_forward_pre_hook(
            lambda module, _: self._running.append(self._part_of.get(id(module), self._running[-1]))
        )
        after = register_module_forward_hook(lambda *_: void(self._running.pop()), always_call=True)
        try:
            yield
        finally:
            before.remove()
            after.remove()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        product = flop_registry.get(func._overloadpacket)
        if product is None:
            return func(*args, **kwargs)
        shapes = func(*tree_map_only(Tensor, _meta, args), **tree_map_only(Tensor, _meta, kwargs))
        self.flops[self._part()] += product(*args, **kwargs, out_val=shapes)
        zero = torch.zeros((), device=args[0].device)  # expanded: no memory behind it
        return tree_map_only(Tensor, lambda shape: zero.expand(shape.shape), shapes)

    def _part(self) -> str:
        """In the forward the module that runs; in the backward the one whose forward made the node (autograd numbers
        its nodes in the order of the forward)."""
        node = torch._C._current_autograd_node()
        if node is not None:
            return self._part_of_node.get(node._sequence_nr(), OTHER)
        self._part_of_node[torch.autograd._get_sequence_nr() - 1] = self._running[-1]
        return self._running[-1]


@contextmanager
def dropped_activations() -> Iterator[None]:
    """Keep of a saved activation only its shape: with skipped products the backward needs no values.

    Whole numbers and booleans are kept, since they decide on shapes, and parameters, which exist anyway.
    """

    def pack(saved: Tensor) -> Tensor:
        return saved if isinstance(saved, nn.Parameter) or not saved.is_floating_point() else _meta(saved)

    def unpack(kept: Tensor) -> Tensor:
        return torch.zeros(()).expand(kept.shape) if kept.is_meta else kept

    with torch.autograd.graph.saved_tensors_hooks(pack, unpack):
        yield


def _meta(tensor: Tensor) -> Tensor:
    return tensor.to("meta")


def void(_: object) -> None:
    """A forward hook that returns a value would replace the module's output."""
