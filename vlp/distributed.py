"""Small collectives that also work in a single process."""

from __future__ import annotations

import re
from typing import Any

import torch
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


def highest_of_ranks(value: Tensor) -> int:
    """The highest ``value``, () bool or integer, of all ranks: one collective on its device, one value read from it."""
    highest = value.int()
    if dist.is_available() and dist.is_initialized():
        dist.all_reduce(highest, dist.ReduceOp.MAX)
    return int(highest)


def gathered_rows(rows: Tensor) -> Tensor:
    """Rows (B, …) of every rank, in rank order, (B·W, …), without gradient; every rank has the same B."""
    if not (dist.is_available() and dist.is_initialized()):
        return rows.detach()
    of_rank = [torch.empty_like(rows) for _ in range(dist.get_world_size())]
    dist.all_gather(of_rank, rows.detach().contiguous())
    return torch.cat(of_rank)


def gathered_features(rows: Tensor) -> Tensor:
    """:func:`gathered_rows` with the gradient of this rank's own rows: the others take theirs on their ranks."""
    if not (dist.is_available() and dist.is_initialized()):
        return rows
    of_rank = list(gathered_rows(rows).split(len(rows)))
    of_rank[dist.get_rank()] = rows
    return torch.cat(of_rank)


def gathered(value: Any) -> list[Any]:
    """``value`` of every rank, in rank order, on every rank; every rank must call it."""
    if not (dist.is_available() and dist.is_initialized()):
        return [value]
    values: list[Any] = [None] * dist.get_world_size()
    dist.all_gather_object(values, value)
    return values
