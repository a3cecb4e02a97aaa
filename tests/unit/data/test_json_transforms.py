"""Crops, flips and RandomAugment against slow readings of the rules; official pixels are in the parity fixtures."""

from __future__ import annotations

import math
import random

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from torchvision import transforms as T
from torchvision.transforms import InterpolationMode

from vlp.data.json.transforms import EvalTransform, TrainTransform, random_box, to_tensor
from vlp.data.random_augment import FILL, OPERATIONS, RandomAugment, sharpness, warp

SIZES = st.integers(1, 12)


def random_pixels(width: int, height: int, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


@settings(max_examples=200, deadline=None)
@given(st.integers(1, 300), st.integers(1, 300), st.sampled_from([(0.2, 1.0), (0.5, 1.0)]), st.integers(0, 10**6))
def test_a_crop_lies_in_the_image_and_has_the_area_and_shape(
    width: int, height: int, scale: tuple[float, float], seed: int
) -> None:
    left, upper, right, lower = random_box(width, height, scale, random.Random(seed))
    assert 0 <= left < right <= width
    assert 0 <= upper < lower <= height
    w, h = right - left, lower - upper
    if min(w, h) > 20 and 3 / 4 <= width / height <= 4 / 3:
        assert 0.72 < w / h < 1.4
        assert scale[0] * 0.9 < w * h / (width * height)


def test_crops_are_distributed_as_torchvisions() -> None:
    """Means of area, log ratio and place over many draws, of an image on which some draws do not fit."""
    rng, (width, height) = random.Random(0), (100, 60)
    ours = np.array([random_box(width, height, (0.2, 1.0), rng) for _ in range(4000)], dtype=float)
    torch.manual_seed(0)
    image = torch.empty(3, height, width)
    drawn = [T.RandomResizedCrop.get_params(image, [0.2, 1.0], [3 / 4, 4 / 3]) for _ in range(4000)]
    theirs = np.array([(x, y, x + w, y + h) for y, x, h, w in drawn], dtype=float)

    def facts(boxes: np.ndarray) -> np.ndarray:
        w, h = boxes[:, 2] - boxes[:, 0], boxes[:, 3] - boxes[:, 1]
        return np.stack([w * h / (width * height), np.log(w / h), boxes[:, 0] / width, boxes[:, 1] / height], axis=1)

    spread = facts(theirs).std(axis=0) * math.sqrt(2 / 4000)
    assert (abs(facts(ours).mean(axis=0) - facts(theirs).mean(axis=0)) < 5 * spread).all()


def test_evaluation_resizes_as_torchvision() -> None:
    image = Image.fromarray(random_pixels(50, 37, 0))
    theirs = T.Compose([T.Resize((24, 24), InterpolationMode.BICUBIC), T.ToTensor()])(image)
    got = EvalTransform(24)(image, random.Random())
    mean, std = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)
    assert torch.equal(got, T.Normalize(mean, std)(theirs))


@pytest.mark.parametrize("scale", [(0.5, 1.0), None])
def test_training_is_crop_resize_flip_augment(scale: tuple[float, float] | None) -> None:
    image, flips = Image.fromarray(random_pixels(50, 37, 1)), 0
    for seed in range(30):
        rng = random.Random(seed)
        expected = image.crop(random_box(50, 37, scale, rng)) if scale else image
        expected = expected.resize((24, 24), Image.Resampling.BICUBIC)
        pixels = np.array(expected)
        if rng.random() < 0.5:
            pixels, flips = pixels[:, ::-1], flips + 1
        pixels = RandomAugment()(np.ascontiguousarray(pixels), np.random.RandomState(rng.getrandbits(32)))
        assert torch.equal(TrainTransform(24, scale)(image, random.Random(seed)), to_tensor(pixels))
    assert 5 < flips < 25


@settings(max_examples=60, deadline=None)
@given(SIZES, SIZES, st.integers(0, 1000), st.integers(0, 1000))
def test_a_warp_is_bilinear_on_a_grey_ground(width: int, height: int, seed: int, map_seed: int) -> None:
    pixels, draws = random_pixels(width, height, seed), random.Random(map_seed)
    a, b, c, d, e, f = (draws.uniform(low, high) for low, high in [(0.6, 1.4), (-0.4, 0.4), (-5, 5)] * 2)
    a, b, d, e = a, b, e, d  # the large ones on the diagonal
    inverse = np.linalg.inv(np.array([[a, b, c], [d, e, f], [0, 0, 1]]))
    got = warp(pixels, (a, b, c, d, e, f)).astype(int)

    def at(x: int, y: int) -> np.ndarray:
        return pixels[y, x].astype(float) if 0 <= x < width and 0 <= y < height else np.full(3, float(FILL))

    for y in range(height):
        for x in range(width):
            u, v, _ = inverse @ (x, y, 1)
            i, j = math.floor(u), math.floor(v)
            corners = [((1 - abs(u - p)) * (1 - abs(v - q)), at(p, q)) for p in (i, i + 1) for q in (j, j + 1)]
            expected = sum(weight * value for weight, value in corners)
            assert abs(got[y, x] - expected).max() <= 0.501


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 6), st.integers(1, 6), st.integers(0, 1000), st.booleans())
def test_sharpness_wraps_around_and_keeps_the_border(width: int, height: int, seed: int, extreme: bool) -> None:
    pixels = random_pixels(width, height, seed)
    if extreme:
        pixels = np.where(pixels > 127, 255, 0).astype(np.uint8)
    got, factor = sharpness(pixels, 1.36), np.float32(1.36)
    for y in range(height):
        for x in range(width):
            for channel in range(3):
                value = int(pixels[y, x, channel])
                if 0 < y < height - 1 and 0 < x < width - 1:
                    around = int(pixels[y - 1 : y + 2, x - 1 : x + 2, channel].sum())
                    blurred = round((around + 4 * value) / 13)
                    value = int(np.float32(blurred) + factor * np.float32(value - blurred)) % 256
                assert got[y, x, channel] == value


def test_operations_are_drawn_uniformly_and_applied_half_of_the_time(monkeypatch: pytest.MonkeyPatch) -> None:
    counts = dict.fromkeys(OPERATIONS, 0)
    negative = dict.fromkeys(OPERATIONS, 0)

    def counting(name: str):  # type: ignore[no-untyped-def]
        def apply(pixels: np.ndarray, amount: float = 1.0) -> np.ndarray:
            counts[name] += 1
            negative[name] += amount < 0
            return pixels

        return apply

    for name, operation in OPERATIONS.items():
        monkeypatch.setitem(OPERATIONS, name, operation._replace(apply=counting(name)))
    draws, augment = np.random.RandomState(0), RandomAugment()
    for _ in range(5000):
        augment(random_pixels(1, 1, 0), draws)
    assert all(abs(count - 500) < 5 * math.sqrt(475) for count in counts.values())  # of 10 000 draws one in twenty
    for name, operation in OPERATIONS.items():
        share = negative[name] / counts[name]
        assert abs(share - 0.5) < 0.12 if operation.negative else share == 0


def test_augmented_pixels_belong_to_the_draws_alone() -> None:
    pixels = random_pixels(30, 20, 3)
    kept = pixels.copy()
    runs = [
        np.stack([RandomAugment()(pixels, draws) for _ in range(40)])
        for draws in (np.random.RandomState(7), np.random.RandomState(7), np.random.RandomState(8))
    ]
    assert (runs[0] == runs[1]).all()
    assert (runs[0] != runs[2]).any()
    assert (pixels == kept).all()
