"""What is drawn is what the boxes and the words say."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from scenes.draw import OVERSAMPLING, render, sprite
from scenes.model import Scene
from scenes.pen import COLOURS, paint
from scenes.sampling import ASPECT, sample_splits
from scenes.statistics import HABITS, KINDS

SIDE = 96


@pytest.fixture(scope="module")
def scenes() -> list[Scene]:
    return sample_splits({"train": 150, "val": 0, "test": 0}, seed=2)["train"]


def test_boxes_lie_inside_and_hold_everything_that_is_drawn(scenes: list[Scene]) -> None:
    for scene in scenes:
        drawn = np.asarray(render(scene, SIDE)).astype(int)
        empty = np.asarray(render(replace(scene, things=()), SIDE)).astype(int)
        changed = np.abs(drawn - empty).max(axis=-1) > 8
        allowed = np.zeros_like(changed)
        for thing in scene.things:
            for box in thing.boxes:
                assert 0 <= box.x0 < box.x1 <= 1 and 0 <= box.y0 < box.y1 <= 1
                x0, y0, x1, y1 = (round(value * SIDE) for value in box)
                assert changed[y0:y1, x0:x1].mean() > 0.2, thing
                assert changed[y1 - 3 : y1].any() and changed[y0 : y0 + 3].any(), thing
                shadow = (x1 - x0) // 8
                allowed[max(0, y0 - 1) : y1 + 1 + shadow, max(0, x0 - 1) : x1 + 1] = True
        assert not (changed & ~allowed).any()


@pytest.mark.parametrize("kind", KINDS)
def test_a_drawing_fills_its_box_and_shows_its_colour(kind: str) -> None:
    width, height = (round(100 * share) for share in ASPECT[kind])
    for colour in HABITS[kind].colours.split()[::2]:
        tile = sprite(kind, colour, "plain", width, height, SIDE * OVERSAMPLING)
        left, top, right, bottom = tile.getbbox() or (0, 0, 0, 0)
        assert left <= 5 and top <= 5 and right >= width - 5 and bottom >= height - 5
        pixels = np.asarray(tile)
        opaque = pixels[pixels[..., 3] > 0][:, :3].astype(int)
        own = (np.abs(opaque - COLOURS[colour]).max(axis=-1) <= 40).mean()
        assert own > 0.2, (colour, own)


@pytest.mark.parametrize("colour", COLOURS)
@pytest.mark.parametrize("pattern", ["striped", "dotted"])
def test_patterns_can_be_seen_and_keep_the_colour_dominant(colour: str, pattern: str) -> None:
    square = np.asarray(paint(colour, pattern, 120, 21)).astype(int)
    own = np.abs(square - COLOURS[colour]).max(axis=-1) == 0
    assert 0.5 < own.mean() < 0.85
    assert np.abs(square[~own].mean(axis=0) - COLOURS[colour]).max() > 60


def test_an_unknown_pattern_is_named() -> None:
    with pytest.raises(ValueError, match="'tartan'"):
        paint("red", "tartan", 10, 5)
