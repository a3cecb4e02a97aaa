"""Image transforms and RandAugment; the official pixels themselves are in the parity fixtures."""

from __future__ import annotations

import pickle
import random

import numpy as np
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from PIL import Image

from vlp.data.randaugment import OPERATIONS, RandAugment
from vlp.data.transforms import KEYS, build_transform, pixelbert_size


def random_image(width: int, height: int, seed: int = 0) -> Image.Image:
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8))


@settings(max_examples=25, deadline=None)
@given(st.sampled_from(KEYS), st.integers(20, 90), st.integers(20, 90), st.integers(0, 1000))
def test_every_key_gives_a_float_image_of_the_asked_size(key: str, width: int, height: int, seed: int) -> None:
    transform = build_transform(key, 64)
    assume(not key.startswith("pixelbert") or 0 not in pixelbert_size(width, height, 64))
    out = transform(random_image(width, height).convert(transform.mode), random.Random(seed))
    assert out.dtype == torch.float32
    expected = pixelbert_size(width, height, 64)[::-1] if key.startswith("pixelbert") else (64, 64)
    assert out.shape == (3, *expected)


@given(st.integers(8, 4000), st.integers(8, 4000), st.integers(32, 400))
def test_pixelbert_size_keeps_the_official_bounds(width: int, height: int, shorter: int) -> None:
    new_width, new_height = pixelbert_size(width, height, shorter)
    assert new_width % 32 == new_height % 32 == 0
    assert max(new_width, new_height) <= int(1333 / 800 * shorter)
    assert min(new_width, new_height) <= shorter
    assert pixelbert_size(height, width, shorter) == (new_height, new_width)
    if max(width, height) * 5 <= min(width, height) * 8:  # ratio up to 1.6: the cap on the longer side does not bite
        assert min(new_width, new_height) == shorter // 32 * 32


def test_pixelbert_size_of_an_exact_384_by_640_image() -> None:
    assert pixelbert_size(640, 384, 384) == (608, 352)


def test_too_thin_image_is_refused_by_name() -> None:
    with pytest.raises(ValueError, match="200 x 2 is too thin"):
        build_transform("pixelbert", 64)(random_image(200, 2))


@pytest.mark.parametrize(("wrong", "nearest"), [("clip_randaugg", "clip_randaug"), ("imagnet", "imagenet")])
def test_unknown_key_names_the_nearest(wrong: str, nearest: str) -> None:
    with pytest.raises(ValueError, match=f"did you mean '{nearest}'"):
        build_transform(wrong, 224)


@settings(max_examples=40, deadline=None)
@given(st.sampled_from(["clip", "clip_randaug"]), st.integers(3, 200), st.integers(3, 200), st.integers(8, 90))
def test_alpha_of_an_opaque_image_changes_nothing(key: str, width: int, height: int, size: int) -> None:
    """Hence the loaders leave it out."""
    transform, rgb = build_transform(key, size), random_image(width, height)
    assert transform.mode == "RGBA"
    views = [transform(image, random.Random(0)) for image in (rgb.convert("RGBA"), rgb)]
    assert torch.equal(*views)


def test_randaugment_draws_from_the_given_source_alone() -> None:
    transform, image = build_transform("imagenet_randaug", 48), random_image(70, 50)
    with pytest.raises(ValueError, match="pass rng"):
        transform(image)
    random.seed(1)
    before = random.getstate()
    outs = [transform(image, random.Random(seed)) for seed in (3, 3, 4, 5, 6)]
    assert random.getstate() == before
    assert torch.equal(outs[0], outs[1])
    assert any(not torch.equal(outs[0], out) for out in outs[2:])


def test_transforms_travel_to_spawned_workers() -> None:
    for key in KEYS:
        transform = build_transform(key, 32)
        image = random_image(40, 50).convert(transform.mode)
        copy = pickle.loads(pickle.dumps(transform))
        assert torch.equal(copy(image, random.Random(0)), transform(image, random.Random(0)))


def test_every_operation_is_drawn_equally_often() -> None:
    drawn = dict.fromkeys((op.name for op in OPERATIONS), 0)

    class Counting(random.Random):
        def choices(self, population, *args, **kwargs):  # type: ignore[no-untyped-def]
            chosen = super().choices(population, *args, **kwargs)
            for operation in chosen:
                drawn[operation.name] += 1
            return chosen

    rng, augment, image = Counting(0), RandAugment(), random_image(4, 4)
    for _ in range(3500):
        augment(image, rng)
    assert sum(drawn.values()) == 7000
    assert all(400 < count < 600 for count in drawn.values()), drawn  # 500 expected, 22 standard deviation


def test_magnitude_scale_and_posterize_keeps_one_bit() -> None:
    for operation in OPERATIONS:
        assert operation.value(0) == operation.low
        assert operation.value(30) == pytest.approx(operation.high)
    (posterize,) = (op for op in OPERATIONS if op.name == "Posterize")
    out = np.asarray(posterize(random_image(30, 30), 0.2, random.Random(0)))
    assert set(np.unique(out)) == {0, 128}
