"""Hard negatives for image-text matching: what looks most like a match, drawn (docs/official/albef.md §5, §9)."""

from __future__ import annotations

import torch
from torch import Tensor


@torch.no_grad()
def draw_negatives(similarities: Tensor, matches: Tensor) -> Tensor:
    """One candidate of each row, with the probability of its similarity among those that do not match.

    Officially the matches are zeroed after the softmax, whose other weights may all have become 0 by then; excluded
    before it, the rest has the same proportions and never vanishes.

    Args:
        similarities: (B, C), the larger the likelier.
        matches: (B, C) bool, never drawn; a row of nothing else gives a match.

    Returns:
        (B,) int64.
    """
    return draw(similarities.float().masked_fill(matches, -torch.inf).softmax(dim=1))


def draw(weights: Tensor) -> Tensor:
    """One of each row's C candidates by its weights (B, C), of any scale; the first if all are 0 -> (B,) int64.

    A race of exponentials: the largest p / E with E ~ Exp(1). ``torch.multinomial`` runs the same one, but has a GPU's
    host wait for checks of p.
    """
    return (weights / torch.empty_like(weights).exponential_()).argmax(dim=1)


def same_image(image_id: Tensor) -> Tensor:
    """Which pairs match as their images are the same: (B,) -> (B, B) bool."""
    return image_id[:, None] == image_id[None]
