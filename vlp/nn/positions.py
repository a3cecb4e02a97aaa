"""Position tables carried to another image size (docs/official/meter.md §4.2 and §4.3, docs/official/albef.md §4)."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional as F

SWIN_STRIDE = 32  # METER's Swin: window = image_size // 32 at every stage


def interpolate_clip_positions(table: Tensor, image_size: int, patch_size: int) -> Tensor:
    """CLIP's position table for images of `image_size`.

    Args:
        table: (1 + g * g, D); row 0 belongs to the class token, the rest to a g x g grid, row by row.

    Returns:
        (1 + G * G, D) with G = image_size // patch_size: row 0 as it is, the grid resampled (bicubic). `table` itself
        where G = g.

    Raises:
        ValueError: the rows after the first are not a square grid.
    """
    target = image_size // patch_size
    grid = _side(table.shape[0] - 1, f"a position table of {table.shape[0]} rows is not 1 + a square grid")
    if grid == target:
        return table
    return torch.cat([table[:1], _resample(table[1:], grid, (target, target))])


def interpolate_vit_positions(table: Tensor, grid: tuple[int, int]) -> Tensor:
    """An ImageNet ViT's position table for another grid of patches, as ViLT's loader resizes it.

    Source: docs/official/vilt.md §8.

    Args:
        table: (1, 1 + g * g, D), class token first.

    Returns:
        (1, 1 + rows * columns, D): row 0 as it is, the grid resampled (bilinear). `table` itself where it has as many
        rows.

    Raises:
        ValueError: the rows after the first are not a square grid.
    """
    rows = table[0]
    if len(rows) == 1 + grid[0] * grid[1]:
        return table
    side = _side(len(rows) - 1, f"a position table of {len(rows)} rows is not 1 + a square grid")
    return torch.cat([rows[:1], _resample(rows[1:], side, grid, mode="bilinear")])[None]


def interpolate_pos_embed(table: Tensor, rows: int) -> Tensor:
    """An ALBEF or X-VLM vision transformer's position table for images of another size.

    Source: docs/official/albef.md §4.

    Args:
        table: (1, 1 + g * g, D), class token first.
        rows: of the new table, 1 + G * G.

    Returns:
        (1, rows, D): row 0 as it is, the grid resampled (bicubic). `table` itself where it has as many rows.

    Raises:
        ValueError: the rows after the first, before or after, are not a square grid.
    """
    target = _side(rows - 1, f"a position table of {rows} rows is not 1 + a square grid")
    resized = interpolate_clip_positions(table[0], image_size=target, patch_size=1)
    return table if len(resized) == table.shape[1] else resized[None]


def interpolate_swin_bias(table: Tensor, before: int, after: int) -> Tensor:
    """A Swin block's relative-position bias table for images of `after` pixels instead of `before`.

    Args:
        table: ((2w - 1) * (2w - 1), heads), w = before // 32.

    Returns:
        ((2W - 1) * (2W - 1), heads) with W = after // 32, resampled per head (bicubic); `table` itself where
        before = after.

    Raises:
        ValueError: the table is not that of images of `before` pixels.
    """
    if before == after:
        return table
    side = _side(table.shape[0], f"a relative-position bias table of {table.shape[0]} rows is not a square grid")
    if side != 2 * (before // SWIN_STRIDE) - 1:
        raise ValueError(
            f"a relative-position bias table of {side} x {side} is for images of {(side + 1) // 2 * SWIN_STRIDE} "
            f"pixels, not {before}: set resolution_before to the checkpoint's image size"
        )
    target = 2 * (after // SWIN_STRIDE) - 1
    return _resample(table, side, (target, target))


def swin_image_size(bias_table: Tensor) -> int:
    """The image size, in pixels, of a Swin block's bias table ((2w - 1) * (2w - 1), heads): w = size // 32."""
    return SWIN_STRIDE * (math.isqrt(bias_table.shape[0]) + 1) // 2


def _side(rows: int, complaint: str) -> int:
    side = math.isqrt(max(rows, 0))
    if rows < 1 or side * side != rows:
        raise ValueError(complaint)
    return side


def _resample(grid: Tensor, side: int, target: tuple[int, int], mode: str = "bicubic") -> Tensor:
    """(side * side, C) -> (rows * columns, C) for the target's rows and columns, computed in float32."""
    image = grid.float().T.reshape(1, -1, side, side)
    resized = F.interpolate(image, size=target, mode=mode, align_corners=False)
    return resized.flatten(2)[0].T.contiguous().to(grid.dtype)
