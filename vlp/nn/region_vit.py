"""The vision transformers that X-VLM takes in place of Swin, DeiT and CLIP's, with regions of their images.

Source: docs/official/xvlm.md §4.2.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

import torch
from timm.layers import QuickGELU
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from vlp.nn.vision import VisionEncoder

_CLIP_ACTIVATIONS = {"quick_gelu": QuickGELU, "gelu": nn.GELU}


class RegionVit(VisionEncoder):
    """All tokens after the final LayerNorm, the class token first; the last layers may see a region's patches alone.

    Args:
        image_size: height and width of every image, in pixels.
        sizes: ``vision_width``, ``num_hidden_layers``, ``num_attention_heads``, ``local_attn_depth``; of CLIP also
            ``intermediate_size``, ``hidden_act`` and ``attention_dropout``.
        clip: CLIP's, with a LayerNorm before the first layer, else DeiT's.
    """

    def __init__(self, image_size: int, sizes: Mapping[str, Any], patch_size: int, clip: bool = False) -> None:
        of_clip = {
            "pre_norm": True,
            "mlp_ratio": sizes["intermediate_size"] / sizes["vision_width"],
            "norm_layer": partial(nn.LayerNorm, eps=1e-5),
            "act_layer": _CLIP_ACTIVATIONS[sizes["hidden_act"]],
            "attn_drop_rate": sizes["attention_dropout"],
        }
        own = {"patch_size": patch_size, "width": sizes["vision_width"]}
        own |= {"depth": sizes["num_hidden_layers"], "heads": sizes["num_attention_heads"]}
        super().__init__(image_size, own, **(of_clip if clip else {}))
        self.local_layers: int = sizes["local_attn_depth"]

    def regions(self, images: Tensor, image_of: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """Images, and regions of them: in the last layers no token of a region sees what is outside it.

        Args:
            images: (I, 3, S, S).
            image_of: (B,) int64, the image of each region.
            mask: (B, 1 + patches) bool, True = a token of the region; token 0 is.

        Returns:
            Regions (B, 1 + patches, width) and whole images (I, 1 + patches, width).
        """
        x = self.norm_pre(self._pos_embed(self.patch_embed(images)))
        blocks: Any = self.blocks
        first = len(blocks) - self.local_layers
        for block in blocks[:first]:
            x = self._run(block, x, None)
        seen = torch.cat([mask, mask.new_ones(len(x), mask.shape[1])])[:, None, None]
        x = torch.cat([x[image_of], x])
        for block in blocks[first:]:
            x = self._run(block, x, seen)
        regions, whole = self.norm(x).split([len(image_of), len(images)])
        return regions, whole

    def _run(self, block: nn.Module, x: Tensor, seen: Tensor | None) -> Tensor:
        if self.grad_checkpointing and torch.is_grad_enabled():
            recomputed: Tensor = checkpoint(block, x, seen, use_reentrant=False)
            return recomputed
        return block(x, seen)
