"""Small collectives that also work in a single process."""

from __future__ import annotations

import re

import torch.distributed as dist
from torch import Tensor


def lost_peer(error: Exception) -> bool:
    """Whether ``error`` only says that another process of the run has gone, which tells its own reason."""
    return isinstance(error, dist.DistBackendError) or bool(re.search("Connection (closed|reset) by peer", str(error)))


def sum_across_ranks(tensor: Tensor) -> Tensor:
    """The element-wise sum over all ranks, in place; ``tensor`` itself where nothing is distributed."""
    if dist.is_available() and dist.is_initialized():
        dist.all_reduce(tensor)
    return tensor
