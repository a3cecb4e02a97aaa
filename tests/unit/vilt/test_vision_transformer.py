"""Patches, their choice and their positions, and the joint blocks over tokens without padding.

Source: docs/official/vilt.md §4.1.
"""

from __future__ import annotations

from typing import Any

import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional as F

from tests.unit.vilt.small import GRID, PATCH, SIZE, images_of
from vilt.modules.vision_transformer import VisionTransformer, bilinear_weights, choose_patches, grid_mask, grid_sizes
from vlp.nn.padding import PaddedLayout, Queries, QuerySubset, TokenPlan, UnpaddedLayout, spread

GRIDS = st.lists(st.tuples(*(st.integers(1, side) for side in GRID)), min_size=1, max_size=4)


def transformer() -> VisionTransformer:
    model = VisionTransformer(SIZE, mlp_ratio=2, drop_rate=0.0)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.15 * torch.randn_like(parameter))
    return model.eval()


# Which patches -------------------------------------------------------------------------------------------


@given(st.lists(st.lists(st.booleans(), min_size=9, max_size=9), min_size=1, max_size=4), st.integers(-1, 10))
def test_all_patches_are_kept_or_as_many_as_fit(valid_rows: list[list[bool]], cap: int) -> None:
    valid = torch.tensor(valid_rows)
    kept = choose_patches(valid, cap)
    counts = valid.sum(dim=1)
    assert not (kept & ~valid).any()
    assert kept.sum(dim=1).tolist() == (counts if cap < 0 else counts.clamp(max=cap)).tolist()


def test_a_choice_is_uniform_and_of_each_image_alone() -> None:
    """Every subset of 2 out of 4 patches, equally often; two equal images choose independently."""
    valid = torch.tensor([[True, True, False, True, True]] * 6000)
    kept = choose_patches(valid, 2)
    subsets, counts = kept.unique(dim=0, return_counts=True)
    assert len(subsets) == 6
    assert (counts.float() / len(valid) - 1 / 6).abs().max() < 0.025  # 5 standard deviations
    both = (kept[0::2] == kept[1::2]).all(dim=1).float().mean()
    assert abs(both - 1 / 6) < 0.035


def test_nothing_is_drawn_where_all_patches_fit() -> None:
    model, images, before = (
        transformer(),
        torch.rand(3, 3, 4 * SIZE.patch_size, 4 * SIZE.patch_size),
        torch.get_rng_state(),
    )
    assert model.visual_embed(images, max_image_len=16).mask.all()
    assert torch.equal(torch.get_rng_state(), before)


@given(GRIDS)
def test_sizes_and_the_official_rule_find_the_same_patches(sizes: list[tuple[int, int]]) -> None:
    images, pixels = images_of(sizes)
    by_rule = grid_sizes(images[0], None, GRID, (PATCH, PATCH))
    assert by_rule.tolist() == [list(size) for size in sizes]
    assert torch.equal(grid_sizes(images[0], pixels, GRID, (PATCH, PATCH)), by_rule)
    mask = grid_mask(by_rule, GRID).unflatten(1, GRID)
    for image, (rows, columns) in zip(mask, sizes, strict=True):
        assert image[:rows, :columns].all() and image.sum() == rows * columns


def test_a_patch_counts_if_its_first_pixel_is_real() -> None:
    sizes = torch.tensor([[PATCH + 1, PATCH]])
    image = torch.zeros(1, 3, GRID[0] * PATCH, GRID[1] * PATCH)
    image[:, :, : PATCH + 1, :PATCH] = 1
    assert grid_sizes(image, None, GRID, (PATCH, PATCH)).tolist() == [[2, 1]]
    assert grid_sizes(image, sizes, GRID, (PATCH, PATCH)).tolist() == [[2, 1]]


# What they become ----------------------------------------------------------------------------------------


@settings(max_examples=20, deadline=None)
@given(GRIDS, st.sampled_from([-1, 2, 5]))
def test_tokens_are_convolution_and_interpolated_positions(sizes: list[tuple[int, int]], cap: int) -> None:
    """Each image as if alone and unpadded, its position table stretched to its own grid with aligned corners."""
    model = transformer()
    images, pixels = images_of(sizes)
    tokens = model.visual_embed(images[0], pixels, cap)
    assert tokens.grid == GRID and tokens.patch_index.shape == (len(sizes), tokens.mask.shape[1] - 1, 2)
    table = model.pos_embed[:, 1:].transpose(1, 2).unflatten(2, SIZE.grid)
    for b, (rows, columns) in enumerate(sizes):
        alone = images[0][b : b + 1, :, : rows * PATCH, : columns * PATCH]
        positions = F.interpolate(table, size=(rows, columns), mode="bilinear", align_corners=True)
        grid = (model.patch_embed.proj(alone) + positions)[0]
        count = rows * columns if cap < 0 else min(rows * columns, cap)
        assert tokens.mask[b].tolist() == [i <= count for i in range(tokens.mask.shape[1])]
        places = tokens.patch_index[b, :count].tolist()
        assert places == sorted(places) and len({tuple(place) for place in places}) == count
        expected = [model.cls_token[0, 0] + model.pos_embed[0, 0], *(grid[:, row, column] for row, column in places)]
        assert torch.allclose(tokens.states[b, : count + 1], torch.stack(expected), atol=1e-5)


@given(st.integers(1, 7), st.integers(1, 12))
def test_bilinear_weights_interpolate(table_size: int, size: int) -> None:
    """The weights of a table of numbers are those of torch's own interpolation; the table itself at its own size."""
    table = torch.randn(table_size, dtype=torch.float64)
    weights = bilinear_weights(torch.arange(size)[None], torch.tensor([[size]]), table_size, torch.float64)
    expected = F.interpolate(table[None, None, None], size=(1, size), mode="bilinear", align_corners=True)
    assert torch.allclose(weights[0] @ table, expected[0, 0, 0], atol=1e-12)
    assert torch.allclose(weights.sum(dim=-1), torch.ones(1, size, dtype=torch.float64))
    if size == table_size:
        assert torch.equal(weights[0], torch.eye(size, dtype=torch.float64))


def test_taking_images_takes_all_that_belongs_to_them() -> None:
    images, pixels = images_of([(1, 2), (3, 4)])
    tokens = transformer().visual_embed(images[0], pixels)
    swapped = tokens.take(torch.tensor([1, 0, 1]))
    assert torch.equal(swapped.states, tokens.states[[1, 0, 1]])
    assert torch.equal(swapped.mask, tokens.mask[[1, 0, 1]])
    assert torch.equal(swapped.patch_index, tokens.patch_index[[1, 0, 1]]) and swapped.grid == tokens.grid


# Blocks --------------------------------------------------------------------------------------------------


@settings(max_examples=15, deadline=None)
@given(st.lists(st.lists(st.booleans(), min_size=8, max_size=8), min_size=1, max_size=3), st.integers(0, 99))
def test_blocks_over_stored_tokens_are_blocks_over_padded_ones(rows: list[list[bool]], seed: int) -> None:
    """Whatever is valid and whatever is read of the last block: values and gradients of those tokens."""
    model = transformer().double()
    mask = torch.tensor(rows)
    mask[:, 0] = True
    wanted = mask & (torch.rand(mask.shape, generator=torch.Generator().manual_seed(seed)) < 0.4)
    x = torch.randn(*mask.shape, SIZE.width, dtype=torch.float64)
    packed = UnpaddedLayout(TokenPlan.of(mask))
    queries = QuerySubset(packed, Queries.of(wanted))
    results = []
    for compute in (
        lambda t: model.run_blocks(t, PaddedLayout(mask)),
        lambda t: packed.pad(model.run_blocks(packed.unpad(t), packed)),
        lambda t: spread(model.run_blocks(packed.unpad(t), packed, queries), queries.queries, mask.shape),
    ):
        entering = x.clone().requires_grad_()
        out = compute(entering) * wanted[..., None]
        out.pow(3).sum().backward()
        assert entering.grad is not None
        results.append((out, entering.grad * mask[..., None]))
    for out, gradient in results[1:]:
        assert torch.allclose(out, results[0][0], atol=1e-10)
        assert torch.allclose(gradient, results[0][1], atol=1e-9)


def test_blocks_can_stop_early_and_go_on() -> None:
    model, x = transformer(), torch.randn(2, 5, SIZE.width)
    layout = PaddedLayout(torch.ones(2, 5, dtype=torch.bool))
    halfway = model.run_blocks(x, layout, stop=2)
    assert torch.equal(model.blocks[2](halfway, layout), model.run_blocks(x, layout))
    assert torch.equal(model.run_blocks(halfway, layout, start=2), model.run_blocks(x, layout))
    assert torch.equal(model.run_blocks(x, layout, stop=0), x)


def test_queries_and_keys_are_those_of_the_attention() -> None:
    block: Any = transformer().blocks[0]
    attention, x = block.attn, torch.randn(2, 5, SIZE.width)
    q, k, _ = attention.qkv(x).reshape(2, 5, 3, SIZE.heads, -1).unbind(2)
    assert torch.allclose(attention.query(x), q, atol=1e-6) and torch.allclose(attention.key(x), k, atol=1e-6)
