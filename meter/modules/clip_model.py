"""METER's CLIP-ViT tower: timm's ViT inside, the official key names outside (docs/official/meter.md §4.2).

As in the official code the LAST CLIP block is dropped (11 of 12 blocks) and ln_post is applied to all tokens.
"""

from __future__ import annotations

import re
from functools import partial
from typing import Any

import timm
import torch
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn

from meter.modules.sizes import ClipSize
from meter.modules.vision_tower import VisionTower
from vlp.nn.attention import init_std, init_weights
from vlp.nn.official_names import use_official_names

_RENAMES = [
    (r"^patch_embed\.proj\.", "conv1."),
    (r"^cls_token$", "class_embedding"),
    (r"^pos_embed$", "positional_embedding"),
    (r"^norm_pre\.", "ln_pre."),
    (r"^norm\.", "ln_post."),
    (r"^blocks\.", "transformer.resblocks."),
    (r"\.attn\.qkv\.", ".attn.in_proj_"),
    (r"\.attn\.proj\.", ".attn.out_proj."),
    (r"\.norm([12])\.", r".ln_\1."),
    (r"\.mlp\.fc1\.", ".mlp.c_fc."),
    (r"\.mlp\.fc2\.", ".mlp.c_proj."),
]
# Where CLIP registers its parts in another order than timm.
_ORDER = (
    *("class_embedding", "positional_embedding", "conv1", "ln_pre", "transformer", "ln_post"),
    *("attn", "ln_1", "mlp", "ln_2"),
)


def clip_key(timm_key: str) -> str:
    """timm's key of the visual tower -> CLIP's: ``blocks.0.norm1.bias`` -> ``transformer.resblocks.0.ln_1.bias``."""
    for pattern, replacement in _RENAMES:
        timm_key = re.sub(pattern, replacement, timm_key)
    return timm_key


class ClipVisualTower(VisionTower):
    """images (B, 3, S, S) -> tokens (B, (S/p)² + 1, width), class token first.

    ``positional_embedding`` and ``ln_final`` are leftovers of CLIP's text side: in the official checkpoints,
    never used, without gradient.
    """

    image_pool = "first"

    def __init__(self, size: ClipSize, image_size: int) -> None:
        super().__init__()
        self.width = size.width
        if image_size % size.patch_size:
            raise ValueError(f"image_size={image_size} is not a multiple of the patch size {size.patch_size}")
        self.positional_embedding = nn.Parameter(torch.empty(size.text_positions, size.text_width).normal_(std=0.01))
        visual: Any = timm.create_model(
            "vit_base_patch16_clip_quickgelu_224",
            num_classes=0,
            img_size=image_size,
            patch_size=size.patch_size,
            embed_dim=size.width,
            depth=size.layers - 1,
            num_heads=size.heads,
        )
        self.visual: VisionTransformer = visual
        self.visual.blocks.apply(partial(init_weights, std=init_std(size.width)))
        self.ln_final = nn.LayerNorm(size.text_width)
        use_official_names(
            self.visual,
            clip_key,
            official_shapes={"cls_token": lambda t: t.flatten(), "pos_embed": lambda t: t.squeeze(0)},
            order=_ORDER,
        )

    def official_key(self, key: str) -> str:
        """Own parameter name -> the name in METER's checkpoints (both relative to this tower)."""
        return "visual." + clip_key(key.removeprefix("visual.")) if key.startswith("visual.") else key

    def forward(self, images: Tensor) -> Tensor:
        """images (B, 3, S, S) -> (B, N, width)."""
        return self.visual.forward_features(images)

    def set_grad_checkpointing(self) -> None:
        """Recompute activations in the backward pass."""
        self.visual.set_grad_checkpointing()
