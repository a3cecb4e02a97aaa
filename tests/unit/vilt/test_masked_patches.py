"""Masked patch prediction as drawn: which patches are predicted, which of them hidden, which left alone.

Source: docs/official/vilt.md §5, MPP.
"""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from tests.unit.vilt.small import GRID, images_of, vilt
from vilt.modules.vision_transformer import ImageTokens

SIZES = [(3, 4), (2, 3), (3, 1), (1, 1)] * 1500
PATCHES = sum(rows * columns for rows, columns in SIZES)


@torch.no_grad()
def masked(max_image_len: int = -1) -> tuple[ImageTokens, ImageTokens, Tensor]:
    """Many images before and after masking, and the labels."""
    model = vilt(("mpp",), max_image_len=max_image_len)
    (images,), sizes = images_of(SIZES)
    before = model.encode_image(images, sizes)
    return before, *model.mask_patches(before, images)


def is_a_share(count: int, share: float, of: int) -> bool:
    """Within 5 standard deviations of the binomial distribution."""
    return abs(count - share * of) < 5 * math.sqrt(of * share * (1 - share))


def test_of_15_percent_of_the_patches_80_percent_are_hidden() -> None:
    before, after, labels = masked()
    labelled = labels[..., 0] != -100
    hidden = (after.features != before.features).any(dim=-1)
    assert int(before.mask[:, 1:].sum()) == PATCHES
    assert is_a_share(int(labelled.sum()), 0.15, PATCHES)
    assert not (hidden & ~labelled).any() and not (labelled & ~before.mask).any() and not labelled[:, 0].any()
    assert is_a_share(int(hidden.sum()), 0.8, int(labelled.sum()))


def test_a_hidden_patch_is_the_mask_token_at_its_place_and_the_others_are_unchanged() -> None:
    model = vilt(("mpp",))
    (images,), sizes = images_of(SIZES[:100])
    before = model.encode_image(images, sizes)
    after, labels = model.mask_patches(before, images)
    token = model.transformer.mask_token
    assert token is not None
    hidden = (after.features == token).all(dim=-1)
    assert 0 < hidden.sum() < (labels[..., 0] != -100).sum()
    assert torch.equal(after.features[~hidden], before.features[~hidden])
    for ours, theirs in zip(after[1:], before[1:], strict=True):
        assert ours is theirs  # positions, mask, places


def test_every_image_and_every_step_draws_its_own() -> None:
    draws = [masked()[2][..., 0] != -100 for _ in range(2)]
    full = [draw[::4, 1:] for draw in draws]  # the images without padding, 12 patches each
    assert not torch.equal(*full)
    # Independent draws: two images, or two steps, label the same patch in 0.15 squared of the cases.
    assert is_a_share(int((full[0] & full[1]).sum()), 0.15**2, full[0].numel())
    assert is_a_share(int((full[0] & full[0].roll(1, dims=0)).sum()), 0.15**2, full[0].numel())
    assert is_a_share(int((full[0] & full[0].roll(1, dims=1)).sum()), 0.15**2, full[0].numel())


@pytest.mark.parametrize("cap", [2, 5])
def test_labels_are_those_of_the_patches_that_are_kept(cap: int) -> None:
    before, _, labels = masked(cap)
    assert labels.shape[1] == 1 + cap < 1 + math.prod(GRID)
    kept, labelled = int(before.mask[:, 1:].sum()), labels[..., 0] != -100
    assert is_a_share(int(labelled.sum()), 0.15, kept) and not (labelled & ~before.mask).any()
    assert torch.equal((labels != -100).sum(dim=-1), 3 * labelled.long())  # all channels or none
