"""Cut a batch's text to its longest sentence."""

from __future__ import annotations

from typing import Any

from vlp.nn.attention import trim_padding


def trimmed(batch: dict[str, Any]) -> dict[str, Any]:
    """The batch with its text cut to the longest sentence: padding changes no valid position (exact)."""
    names = [f"text_{kind}" for kind in ("ids", "labels", "ids_mlm", "labels_mlm") if f"text_{kind}" in batch]
    mask, *rest = trim_padding(batch["text_masks"], *(batch[name] for name in names))
    return {**batch, "text_masks": mask, **dict(zip(names, rest, strict=True))}
