"""The vision transformer of ALBEF: timm's, which has the official key names (docs/official/albef.md §4)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn


class VisionEncoder(VisionTransformer):
    """All tokens after the final LayerNorm, the class token first.

    Args:
        image_size: height and width of every image, in pixels.
        sizes: ``patch_size``, ``width``, ``depth`` and ``heads``.
        further: arguments of timm's.
    """

    def __init__(self, image_size: int, sizes: Mapping[str, int], **further: Any) -> None:
        super().__init__(
            img_size=image_size,
            patch_size=sizes["patch_size"],
            embed_dim=sizes["width"],
            depth=sizes["depth"],
            num_heads=sizes["heads"],
            num_classes=0,
            global_pool="",
            **further,
        )
        assert self.cls_token is not None
        nn.init.trunc_normal_(self.cls_token, std=0.02)  # timm's is nearly 0

    def forward(self, images: Tensor) -> Tensor:  # type: ignore[override]
        """images (B, 3, S, S) -> (B, 1 + patches, width)."""
        return self.forward_features(images)
