"""ViLT's transformer: timm's ViT, whose blocks run over text and image tokens together.

Source: docs/official/vilt.md §4, §4.1.
"""

from __future__ import annotations

from functools import partial
from typing import NamedTuple

import torch
import torch.nn.functional as F
from timm.models import vision_transformer as timm_vit
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from vilt.modules.sizes import VitSize
from vlp.nn.attention import attention_weights, init_std, init_weights
from vlp.nn.padding import PaddedLayout, QuerySubset


class ImageTokens(NamedTuple):
    """Embedded images, before dropout and the modality embedding: the class token, then the kept patches.

    Patches stand in raster order; images with fewer than P fill up with tokens that ``mask`` hides.
    """

    features: Tensor  # (B, 1 + P, d)
    positions: Tensor  # (B, 1 + P, d)
    mask: Tensor  # (B, 1 + P) bool, True = a token of the image
    patch_index: Tensor  # (B, P, 2) row and column
    grid: tuple[int, int]  # rows and columns of the padded batch

    @property
    def states(self) -> Tensor:
        """(B, 1 + P, d)."""
        return self.features + self.positions

    def take(self, samples: Tensor | slice) -> ImageTokens:
        """Those of ``samples``, an index (C,) into the B images."""
        features, positions, mask, patch_index = (t[samples] for t in self[:4])
        return ImageTokens(features, positions, mask, patch_index, self.grid)


class JointAttention(timm_vit.Attention):
    """timm's attention over tokens stored with or without padding.

    ``keep_map = True`` keeps the attention (B, h, N, N) of a pass in ``attention_map``, with its gradient.
    """

    keep_map = False
    attention_map: Tensor | None = None

    def forward(self, x: Tensor, layout: PaddedLayout, queries: QuerySubset | None = None) -> Tensor:  # type: ignore[override]
        """x stored as ``layout`` says -> as x; the K queries of ``queries`` alone -> (K, d)."""
        assert layout.mask is not None
        if queries is None:
            q, k, v = (self._heads(t) for t in layout.pad(self.qkv(x)).chunk(3, dim=-1))
        else:
            q = self._heads(queries.pad(self._project(queries.select(x), 0, 1)))
            k, v = (self._heads(t) for t in layout.pad(self._project(x, 1, 3)).chunk(2, dim=-1))
        mask = layout.mask[:, None, None, :]
        if self.keep_map:
            self.attention_map = attention_weights(q, k, mask)
            attended = self.attention_map @ v
        else:
            attended = F.scaled_dot_product_attention(q, k, v, attn_mask=mask)
        return self.proj_drop(self.proj((queries or layout).unpad(attended.transpose(1, 2).flatten(2))))

    def query(self, x: Tensor) -> Tensor:
        """(…, d) -> queries of every head (…, h, d_h)."""
        return self._project(x, 0, 1).unflatten(-1, (self.num_heads, -1))

    def key(self, x: Tensor) -> Tensor:
        """(…, d) -> keys of every head (…, h, d_h)."""
        return self._project(x, 1, 2).unflatten(-1, (self.num_heads, -1))

    def _project(self, x: Tensor, start: int, stop: int) -> Tensor:
        """The thirds ``start`` to ``stop`` of [q | k | v]."""
        third = slice(start * self.attn_dim, stop * self.attn_dim)
        return F.linear(x, self.qkv.weight[third], self.qkv.bias[third])

    def _heads(self, x: Tensor) -> Tensor:
        """(B, n, d) -> (B, h, n, d_h)."""
        return x.unflatten(-1, (self.num_heads, -1)).transpose(1, 2)


class JointBlock(timm_vit.Block):
    """timm's pre-norm block around :class:`JointAttention`."""

    def forward(self, x: Tensor, layout: PaddedLayout, queries: QuerySubset | None = None) -> Tensor:  # type: ignore[override]
        """x stored as ``layout`` says -> as x; with ``queries`` its tokens alone (K, d)."""
        attended = self.attn(self.norm1(x), layout, queries)
        x = attended + (x if queries is None else queries.select(x))
        return x + self.mlp(self.norm2(x))


class VisionTransformer(timm_vit.VisionTransformer):
    """The official parameters and their names are timm's; ``mask_token`` is there for masked patches.

    Source: docs/official/vilt.md §5.
    """

    cls_token: nn.Parameter  # (1, 1, d)
    pos_embed: nn.Parameter  # (1, 1 + rows·columns, d)

    def __init__(self, size: VitSize, mlp_ratio: float, drop_rate: float, mask_token: bool = False) -> None:
        rows, columns = size.grid
        super().__init__(
            img_size=(rows * size.patch_size, columns * size.patch_size),
            patch_size=size.patch_size,
            num_classes=0,
            embed_dim=size.width,
            depth=size.layers,
            num_heads=size.heads,
            mlp_ratio=mlp_ratio,
            pos_drop_rate=drop_rate,
            proj_drop_rate=drop_rate,  # after attention and at both points of the MLP
            norm_layer=partial(nn.LayerNorm, eps=1e-6),
            block_fn=JointBlock,
            attn_layer=JointAttention,
        )
        self.mask_token = nn.Parameter(torch.empty(1, 1, size.width)) if mask_token else None
        std = init_std(size.width)
        self.blocks.apply(partial(init_weights, std=std))
        for table in (self.cls_token, self.pos_embed, self.mask_token):
            if table is not None:
                nn.init.trunc_normal_(table, std=std)

    def visual_embed(
        self, images: Tensor, sizes: Tensor | None = None, max_image_len: int = -1, most: int | None = None
    ) -> ImageTokens:
        """Patches and their positions, of every image as many as it has (docs/official/vilt.md §4.1).

        Args:
            images: (B, 3, H, W), every image top left in zeros.
            sizes: (B, 2) height and width in pixels of each; by default a pixel whose channels sum to 0 is padding.
            max_image_len: the most patches that are kept of an image; < 0 = all.
            most: patches of the largest image, or more; by default the host waits for that number.
        """
        grid_features = self.patch_embed.proj(images)
        rows, columns = grid_features.shape[2:]
        valid_grid = grid_sizes(images, sizes, (rows, columns), self.patch_embed.patch_size)
        valid = grid_mask(valid_grid, (rows, columns))
        most = int(valid.sum(dim=1).max()) if most is None else most
        capped = 0 <= max_image_len < most
        kept, count = (choose_patches(valid, max_image_len), max_image_len) if capped else (valid, most)
        place = kept.logical_not().byte().argsort(dim=1, stable=True)[:, :count]  # kept ones first, in raster order
        patch_index = torch.stack([place // columns, place % columns], dim=-1)

        features = grid_features.flatten(2).transpose(1, 2)
        features = features.gather(1, place[..., None].expand(-1, -1, features.shape[2]))
        positions = self._positions(patch_index, valid_grid)
        size = len(images)
        return ImageTokens(
            torch.cat([self.cls_token.expand(size, -1, -1), features], dim=1),
            torch.cat([self.pos_embed[:, :1].expand(size, -1, -1), positions], dim=1),
            torch.cat([kept.new_ones(size, 1), kept.gather(1, place)], dim=1),
            patch_index,
            (rows, columns),
        )

    def _positions(self, patch_index: Tensor, valid_grid: Tensor) -> Tensor:
        """The table interpolated to each image's grid (B, 2), at its patches (B, P, 2) -> (B, P, d)."""
        rows, columns = self.patch_embed.grid_size
        table = self.pos_embed[0, 1:]
        # A product instead of F.grid_sample, whose backward pass on CUDA adds in another order each time.
        with torch.autocast(table.device.type, enabled=False):
            vertical = bilinear_weights(patch_index[..., 0], valid_grid[:, :1], rows, table.dtype)
            horizontal = bilinear_weights(patch_index[..., 1], valid_grid[:, 1:], columns, table.dtype)
            return (vertical[..., :, None] * horizontal[..., None, :]).flatten(2) @ table

    def run_blocks(
        self,
        x: Tensor,
        layout: PaddedLayout,
        queries: QuerySubset | None = None,
        start: int = 0,
        stop: int | None = None,
    ) -> Tensor:
        """The blocks from ``start`` to before ``stop`` over x as ``layout`` stores it, the last for ``queries``."""
        blocks = list(self.blocks)[start:stop]
        for block in blocks:
            chosen = queries if block is blocks[-1] else None
            if self.grad_checkpointing and self.training:
                x = checkpoint(block, x, layout, chosen, use_reentrant=False)
            else:
                x = block(x, layout, chosen)
        return x if blocks or queries is None else queries.select(x)


def grid_sizes(images: Tensor, sizes: Tensor | None, grid: tuple[int, int], patch_size: tuple[int, int]) -> Tensor:
    """Rows and columns of patches of each image (B, 2); a patch whose first pixel is real counts.

    Source: docs/official/vilt.md §4.1, steps 2-3.

    Raises:
        ValueError: without ``sizes`` (B, 2) in pixels, an image that is all padding.
    """
    if sizes is not None:
        each = zip(sizes.to(images.device).unbind(dim=1), patch_size, grid, strict=True)
        return torch.stack([(-(-size // patch)).clamp(max=most) for size, patch, most in each], dim=1)
    real = (images.float().sum(dim=1, keepdim=True) != 0).float()
    real = F.interpolate(real, size=grid, mode="nearest").squeeze(1)
    counted = torch.stack([real[:, :, 0].sum(dim=1), real[:, 0].sum(dim=1)], dim=1).long()
    if (empty := (counted == 0).any(dim=1)).any():
        raise ValueError(
            f"image {int(empty.nonzero()[0])} of the batch has no pixel whose channels sum to anything but 0: "
            "padding alone, or a grey that looks like it; give batch['sizes']"
        )
    return counted


def grid_mask(valid_grid: Tensor, grid: tuple[int, int]) -> Tensor:
    """valid_grid (B, 2) -> which patches of the padded grid are an image's, (B, H·W) bool in raster order."""
    inside = [torch.arange(n, device=valid_grid.device) < valid_grid[:, axis, None] for axis, n in enumerate(grid)]
    return (inside[0][:, :, None] & inside[1][:, None, :]).flatten(1)


def choose_patches(valid: Tensor, max_image_len: int) -> Tensor:
    """valid (B, N) bool -> kept (B, N) bool: a uniformly random ``max_image_len`` of those of an image, or all it has.

    Officially the kept ones are permuted too, which changes nothing, since positions are in the tokens
    (docs/official/vilt.md §4.1, step 6).
    """
    draws = torch.rand(valid.shape, device=valid.device).masked_fill(~valid, 2.0)
    drawn = draws.argsort(dim=1)[:, :max_image_len]
    return torch.zeros_like(valid).scatter(1, drawn, True) & valid


def bilinear_weights(at: Tensor, size: Tensor, table_size: int, dtype: torch.dtype) -> Tensor:
    """Weights of a table's ``table_size`` entries, stretched to ``size`` (corners aligned), at positions ``at``.

    at (B, P) in [0, size), size (B, 1) -> (B, P, table_size); each row sums to 1.
    """
    stretched = at * ((table_size - 1) / (size - 1).clamp(min=1).to(dtype))
    entries = torch.arange(table_size, device=at.device)
    return (1 - (stretched[..., None] - entries).abs()).clamp(min=0)
