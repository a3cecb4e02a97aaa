"""Resampling of position tables; official tables are in the parity fixtures."""

from __future__ import annotations

import pytest
import torch

from vlp.nn.positions import interpolate_clip_positions, interpolate_swin_bias


def test_equal_sizes_give_the_table_itself() -> None:
    table, bias = torch.randn(1 + 49, 8), torch.randn(13 * 13, 4)
    assert interpolate_clip_positions(table, 224, 32) is table
    assert interpolate_clip_positions(table, 230, 32) is table  # the grid counts, not the pixels
    assert interpolate_swin_bias(bias, 224, 224) is bias


def test_clip_grid_is_resampled_row_by_row_beside_the_class_token() -> None:
    """A ramp along rows (columns) stays one, to the 3/64 of bicubic with a = -0.75, and channels do not mix."""
    y, x = torch.meshgrid(torch.arange(14.0), torch.arange(14.0), indexing="ij")
    table = torch.cat([torch.full((1, 3), 7.0), torch.stack([y, x, torch.ones(14, 14)], dim=-1).flatten(0, 1)])
    out = interpolate_clip_positions(table, 448, 16)
    assert out.shape == (1 + 28 * 28, 3)
    assert torch.equal(out[0], table[0])
    grid = out[1:].reshape(28, 28, 3)
    ramp = (torch.arange(28.0) + 0.5) / 2 - 0.5  # pixel centres, align_corners=False
    inside = slice(4, 24)  # bicubic reads beyond the border near it
    assert torch.allclose(grid[inside, inside, 0], ramp[inside, None].expand(20, 20), atol=3 / 64 + 1e-5)
    assert torch.allclose(grid[inside, inside, 1], ramp[None, inside].expand(20, 20), atol=3 / 64 + 1e-5)
    assert torch.allclose(grid[..., 2], torch.ones(28, 28), atol=1e-6)


def test_swin_heads_are_resampled_one_by_one() -> None:
    bias = torch.randn(13 * 13, 4, generator=torch.Generator().manual_seed(0))
    out = interpolate_swin_bias(bias, 224, 384)
    assert out.shape == (23 * 23, 4)
    for head in range(4):
        alone = interpolate_swin_bias(bias[:, head : head + 1], 224, 384)
        assert torch.allclose(out[:, head], alone[:, 0], atol=1e-6)
    assert torch.allclose(interpolate_swin_bias(torch.ones(13 * 13, 2), 224, 96), torch.ones(25, 2), atol=1e-6)


def test_half_precision_tables_keep_their_type() -> None:
    table = torch.randn(1 + 49, 8)
    out = interpolate_clip_positions(table.half(), 288, 32)
    assert out.dtype == torch.float16
    assert torch.allclose(out.float(), interpolate_clip_positions(table, 288, 32), atol=5e-3)


def test_tables_that_do_not_fit_are_refused() -> None:
    with pytest.raises(ValueError, match="51 rows is not 1 \\+ a square grid"):
        interpolate_clip_positions(torch.zeros(51, 8), 224, 32)
    with pytest.raises(ValueError, match="170 rows is not a square grid"):
        interpolate_swin_bias(torch.zeros(170, 4), 224, 384)
    with pytest.raises(ValueError, match="for images of 224 pixels, not 384: set resolution_before"):
        interpolate_swin_bias(torch.zeros(13 * 13, 4), 384, 288)
