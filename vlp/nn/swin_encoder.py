"""The Swin Transformer of X-VLM: timm's inside, the official (timm 0.4) module and key names outside.

Source: docs/official/xvlm.md §4.2.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from timm.models import checkpoint_seq
from timm.models.swin_transformer import SwinTransformer
from torch import Tensor, nn

from vlp.nn.official_names import use_official_names

# Where the official Swin registers its parts in another order than timm.
SWIN_ORDER = (
    *("patch_embed", "layers", "blocks", "downsample", "attn_mask", "norm1", "attn", "norm2", "mlp"),
    *("relative_position_bias_table", "relative_position_index", "qkv", "reduction", "proj", "norm"),
)


def swin_buffers(swin: nn.Module) -> dict[str, Tensor]:
    """What official checkpoints hold beside the weights, and every Swin derives from its sizes."""
    derived = (".relative_position_index", ".attn_mask")
    return {name: buffer for name, buffer in swin.named_buffers() if name.endswith(derived)}


class SwinStage(nn.Module):
    """Blocks, then in all stages but the last the merging of 2x2 patches into one."""

    def __init__(self, blocks: nn.Sequential, downsample: nn.Module | None) -> None:
        super().__init__()
        self.blocks = blocks
        self.downsample = downsample
        self.gradient_checkpointing = False

    def forward(self, x: Tensor) -> Tensor:
        """(B, H, W, c) -> (B, H/2, W/2, 2c), of the last stage (B, H, W, c)."""
        recompute = self.gradient_checkpointing and torch.is_grad_enabled()
        x = checkpoint_seq(self.blocks, x, use_reentrant=False) if recompute else self.blocks(x)
        return x if self.downsample is None else self.downsample(x)


class SwinEncoder(nn.Module):
    """All patches after the final LayerNorm, and before them their mean, which stands for the image.

    Args:
        image_size: height and width of every image, in pixels.
        sizes: the content of a ``vision_config`` file: ``window_size``, ``embed_dim``, ``depths``, ``num_heads``.
            Windows tile the patches of every stage.
        drop_path: the greatest rate of stochastic depth, which grows linearly over the blocks.
    """

    def __init__(self, image_size: int, sizes: Mapping[str, Any], drop_path: float = 0.1) -> None:
        super().__init__()
        swin: Any = SwinTransformer(
            img_size=image_size,
            in_chans=sizes.get("in_channels", 3),
            embed_dim=sizes["embed_dim"],
            depths=tuple(sizes["depths"]),
            num_heads=tuple(sizes["num_heads"]),
            window_size=sizes["window_size"],
            num_classes=0,
            drop_path_rate=drop_path,
        )
        self.patch_embed: nn.Module = swin.patch_embed
        merging = [stage.downsample for stage in swin.layers][1:]  # timm's stages begin with it
        self.layers = nn.Sequential(
            *(SwinStage(stage.blocks, after) for stage, after in zip(swin.layers, [*merging, None], strict=True))
        )
        self.norm: nn.Module = swin.norm
        use_official_names(self, lambda key: key, derived=lambda: swin_buffers(self), order=SWIN_ORDER)

    def forward(self, images: Tensor) -> Tensor:
        """images (I, 3, S, S) -> (I, 1 + patches, width)."""
        patches = self.norm(self.layers(self.patch_embed(images))).flatten(1, 2)
        return torch.cat([patches.mean(dim=1, keepdim=True), patches], dim=1)

    def regions(self, images: Tensor, image_of: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """Images, and regions of them: a region's token 0 is the mean of the patches that belong to it.

        Patches themselves are not encoded anew.

        Args:
            images: (I, 3, S, S).
            image_of: (B,) int64, the image of each region.
            mask: (B, 1 + patches) bool, True = a token of the region; at least one patch is.

        Returns:
            Regions (B, 1 + patches, width) and whole images (I, 1 + patches, width).
        """
        whole = self(images)
        patches, inside = whole[image_of, 1:], mask[:, 1:, None].to(whole.dtype)
        pooled = (patches * inside).sum(dim=1, keepdim=True) / inside.sum(dim=1, keepdim=True)
        return torch.cat([pooled, patches], dim=1), whole

    def set_grad_checkpointing(self) -> None:
        """Compute the blocks again in the backward pass."""
        for stage in self.layers:
            stage.gradient_checkpointing = True  # type: ignore[assignment]
