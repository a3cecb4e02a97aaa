"""Cut texts to the longest sentence of their batch."""

from __future__ import annotations

from typing import Any

from torch import Tensor


def trimmed(batch: dict[str, Any]) -> dict[str, Any]:
    """The batch with its text cut to the longest sentence: padding changes no valid position (exact)."""
    names = [f"text_{kind}" for kind in ("ids", "labels", "ids_mlm", "labels_mlm") if f"text_{kind}" in batch]
    mask, *rest = trim_padding(batch["text_masks"], *(batch[name] for name in names))
    return {**batch, "text_masks": mask, **dict(zip(names, rest, strict=True))}


def trim_padding(mask: Tensor, *per_token: Tensor) -> tuple[Tensor, ...]:
    """Cut mask (B, n) and every tensor of its shape to the longest sentence of the batch.

    Padding never changes a valid position, so this only saves work. Padding must be on the right.
    """
    longest = max(int(mask.sum(dim=1).max()), 1)
    return tuple(t[:, :longest] for t in (mask, *per_token))
