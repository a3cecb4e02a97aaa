"""Queues of features of past batches, more candidates for a contrast than a batch holds (docs/official/albef.md §5)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F


def random_queue(width: int, size: int) -> Tensor:
    """(width, size) of standard normal columns with norm 1: what a queue holds before a run has filled it."""
    return F.normalize(torch.randn(width, size), dim=0)


@torch.no_grad()
def enqueue(queues: Sequence[Tensor], pointer: Tensor, features: Sequence[Tensor]) -> None:
    """Write features (B, width) of all ranks into queues (width, Q) at ``pointer`` (1,), and move it on, modulo Q.

    In place and without a look at the pointer, for which a GPU's host would wait. Q must be a multiple of B.
    """
    size = queues[0].shape[1]
    places = pointer + torch.arange(len(features[0]), device=pointer.device)
    for queue, columns in zip(queues, features, strict=True):
        queue.index_copy_(1, places, columns.to(queue.dtype).T)
    pointer.copy_((pointer + len(features[0])) % size)
