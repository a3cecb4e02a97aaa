"""ViLT's transformers by their official names, and their sizes (docs/official/vilt.md §4.3)."""

from __future__ import annotations

from typing import NamedTuple


class VitSize(NamedTuple):
    """Sizes of a transformer; ``grid`` is that of its position table, in patches."""

    width: int
    layers: int
    heads: int
    patch_size: int
    grid: tuple[int, int]


VIT_SIZES = {
    "vit_base_patch32_384": VitSize(768, 12, 12, 32, (12, 12)),
    "vit_tiny_patch16_64": VitSize(128, 4, 4, 16, (4, 4)),  # ours: a CPU trains it on images of 64 pixels
}
