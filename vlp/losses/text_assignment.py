"""NLVR2's first stage: to which of two images does a text belong, if to any.

Source: docs/official/albef.md §5, docs/official/xvlm.md §7.3.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

TEMPERATURE = 0.07  # of the similarities; no config says it
OWN_FIRST, OWN_SECOND, NEITHER = range(3)
FEWEST = 3  # texts of a batch, so that one can be shown two images that are not its own


class Assignment(NamedTuple):
    """For each text the two images that it is shown, as rows of the batch, and the class: (B,) int64 each."""

    first: Tensor
    second: Tensor
    labels: Tensor


def check_batch(size: int) -> None:
    """
    Raises:
        ValueError: a batch of fewer than three images, where no text can be shown two that are not its own.
    """
    if size < FEWEST:
        raise ValueError(f"batch_size={size}: NLVR2's text assignment needs at least {FEWEST} per process")


@torch.no_grad()
def draw_assignment(similarities: Tensor) -> Assignment:
    """Show each text its own image beside one that looks like it, or two of those.

    A third of the texts each see their own image first, second or not at all. Others are drawn by a softmax of
    similarities (B, B) without the own image; a race of exponentials, whose two fastest are two draws without
    replacement, and which no GPU's host waits for.
    """
    size, device = len(similarities), similarities.device
    own = torch.arange(size, device=device)
    others = similarities.float().masked_fill(torch.eye(size, dtype=torch.bool, device=device), -torch.inf)
    weights = others.softmax(dim=1)
    one, two = (weights / torch.empty_like(weights).exponential_()).topk(2, dim=1).indices.unbind(dim=1)
    shown, order = torch.rand(size, device=device) > 1 / 3, torch.rand(size, device=device) > 0.5
    first = torch.where(shown & order, own, one)
    second = torch.where(shown, torch.where(order, one, own), two)
    labels = torch.where(shown, torch.where(order, OWN_FIRST, OWN_SECOND), NEITHER)
    return Assignment(first, second, labels)
