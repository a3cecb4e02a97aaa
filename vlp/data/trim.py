"""Cut texts to the longest sentence of their batch."""

from __future__ import annotations

from typing import Any

from torch import Tensor


def trimmed(batch: dict[str, Any], longest: int | None = None) -> dict[str, Any]:
    """The batch with its text cut to the longest sentence: padding changes no valid position (exact).

    Args:
        longest: in tokens; by default it is read off the mask, for which a GPU's host waits.
    """
    kinds = ("masks", "ids", "labels", "ids_mlm", "labels_mlm")
    names = [f"text_{kind}" for kind in kinds if f"text_{kind}" in batch]
    longest = longest_sentence(batch["text_masks"]) if longest is None else longest
    return {**batch, **{name: batch[name][:, :longest] for name in names}}


def trim_padding(mask: Tensor, *per_token: Tensor) -> tuple[Tensor, ...]:
    """Cut mask (B, n) and every tensor of its shape to the longest sentence of the batch.

    Padding never changes a valid position, so this only saves work. Padding must be on the right.
    """
    longest = longest_sentence(mask)
    return tuple(t[:, :longest] for t in (mask, *per_token))


def longest_sentence(mask: Tensor) -> int:
    """Tokens of the longest sentence of mask (B, n), at least 1."""
    return max(int(mask.sum(dim=1).max()), 1)
