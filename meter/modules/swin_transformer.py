"""METER's Swin tower: timm's Swin inside, the official (timm 0.4) key names outside (docs/official/meter.md §4.3)."""

from __future__ import annotations

from typing import Any

import timm
from torch import Tensor, nn

from meter.modules.sizes import SwinSize
from meter.modules.vision_tower import VisionTower
from vlp.nn.official_names import swin_key, use_official_names
from vlp.nn.swin_encoder import SWIN_ORDER, swin_buffers


class SwinTower(VisionTower):
    """images (B, 3, S, S) -> tokens (B, (S/32)², width); no class token."""

    image_pool = "mean"

    def __init__(self, size: SwinSize, image_size: int) -> None:
        super().__init__()
        self.width = size.width
        if image_size % 32:
            raise ValueError(f"image_size={image_size} is not a multiple of 32, as Swin needs")
        swin: Any = timm.create_model(
            "swin_base_patch4_window7_224",
            num_classes=0,
            img_size=image_size,
            window_size=image_size // 32,
            embed_dim=size.embed_dim,
            depths=size.depths,
            num_heads=size.heads,
            drop_path_rate=size.drop_path,
        )
        # Official keys carry no extra level, so timm's sub-modules become this module's own.
        self.patch_embed: nn.Module = swin.patch_embed
        self.layers: nn.Sequential = swin.layers
        self.norm: nn.Module = swin.norm
        use_official_names(self, swin_key, derived=lambda: swin_buffers(self), order=SWIN_ORDER)

    def official_key(self, key: str) -> str:
        """Own parameter name -> the name in METER's checkpoints (both relative to this tower)."""
        return swin_key(key)

    def forward(self, images: Tensor) -> Tensor:
        """images (B, 3, S, S) -> (B, N, width)."""
        return self.norm(self.layers(self.patch_embed(images))).flatten(1, 2)

    def set_grad_checkpointing(self) -> None:
        """Recompute activations in the backward pass."""
        stage: Any
        for stage in self.layers:
            stage.grad_checkpointing = True
