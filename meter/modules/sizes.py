"""METER's image encoders by their official names, and their sizes (docs/official/meter.md §4.2, §4.3)."""

from __future__ import annotations

from typing import NamedTuple


class ClipSize(NamedTuple):
    """Sizes of a CLIP visual tower; ``layers`` counts CLIP's own blocks, of which METER drops the last."""

    width: int
    layers: int
    heads: int
    patch_size: int
    pretrained: str | None  # timm's name of the official weights
    text_positions: int = 77
    text_width: int = 512


CLIP_SIZES = {
    "ViT-B/32": ClipSize(768, 12, 12, 32, "vit_base_patch32_clip_quickgelu_224.openai"),
    "ViT-B/16": ClipSize(768, 12, 12, 16, "vit_base_patch16_clip_quickgelu_224.openai"),
    "ViT-Tiny/16": ClipSize(128, 5, 4, 16, None, text_positions=9, text_width=32),
}


class SwinSize(NamedTuple):
    """Sizes of a Swin; the window is always image_size // 32, whatever the name says."""

    embed_dim: int
    depths: tuple[int, ...]
    heads: tuple[int, ...]
    pretrained: str | None  # timm's name of the official weights
    drop_path: float = 0.1

    @property
    def width(self) -> int:
        """Channels of the output tokens."""
        return self.embed_dim * 2 ** (len(self.depths) - 1)


_BASE = (128, (2, 2, 18, 2), (4, 8, 16, 32))
_LARGE = (192, (2, 2, 18, 2), (6, 12, 24, 48))
SWIN_SIZES = {
    "swin_base_patch4_window7_224_in22k": SwinSize(*_BASE, "swin_base_patch4_window7_224.ms_in22k"),
    "swin_base_patch4_window12_384_in22k": SwinSize(*_BASE, "swin_base_patch4_window12_384.ms_in22k"),
    "swin_large_patch4_window12_384_in22k": SwinSize(*_LARGE, "swin_large_patch4_window12_384.ms_in22k"),
}
