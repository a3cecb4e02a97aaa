"""Levels of difficulty: what occurs, what is said, and that the usual scenes know nothing of them."""

from __future__ import annotations

import json
import random
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from scenes.coco_layout import REQUEST_FILE, Request, write_coco
from scenes.foils import foils
from scenes.grammar import Grammar
from scenes.levels import FULL, LEVELS, PAIR, SAID, SINGLE, Level
from scenes.sampling import sample_scene, sample_splits
from scenes.statistics import Statistics, pairs


def weights(values: list[str]) -> st.SearchStrategy[str]:
    """Some of the values, each with a weight."""
    chosen = st.lists(st.sampled_from(values), min_size=1, unique=True)
    return chosen.map(lambda names: " ".join(f"{name} {place + 1}" for place, name in enumerate(names)))


@st.composite
def levels(draw: st.DrawFn) -> Level:
    """Any level whose grounds have kinds on them."""
    said = {name: draw(st.sampled_from((0.5, 1.0))) for name in SAID}
    return Level(
        things=draw(weights(["1", "2", "3"])),
        grounds=draw(weights([*pairs(FULL.grounds)])),
        times=draw(weights([*pairs(FULL.times)])),
        looks=draw(st.integers(1, 3)),
        scale=draw(st.floats(0.5, 1.8)),
        said=said,
    )


@settings(deadline=None, max_examples=60)
@given(levels(), st.integers(0, 10**6), st.sampled_from((0, 7)))
def test_scenes_hold_what_their_level_allows_and_captions_are_true(level: Level, seed: int, statistics: int) -> None:
    rng, habits = random.Random(seed), Statistics(statistics, level)
    scene = sample_scene(rng, habits)
    assert str(len(scene.things)) in pairs(level.things)
    assert scene.ground in pairs(level.grounds)
    assert scene.time in {*pairs(level.times), *(["day"] if scene.ground == "table" else [])}
    assert scene.look < level.looks
    for box in (box for thing in scene.things for box in thing.boxes):
        assert box.x0 < box.x1
        assert box.y0 < box.y1
    caption = Grammar(habits).caption(scene, rng)
    assert caption.claim.holds(scene)
    assert caption.claim.ground in (None, scene.ground)
    for foil in foils(caption, scene, habits, rng):
        assert foil.text != caption.text


@settings(deadline=None, max_examples=80)
@given(st.integers(0, 10**6))
def test_single_scenes_have_one_large_thing_of_which_all_is_said(seed: int) -> None:
    rng, habits = random.Random(seed), Statistics(level=SINGLE)
    scene = sample_scene(rng, habits)
    (thing,) = scene.things
    assert all(0.0 <= edge <= 1.0 for box in thing.boxes for edge in box)
    said = Grammar(habits).caption(scene, rng)
    (phrase,) = said.claim.phrases
    assert (phrase.kind, phrase.colour, phrase.count) == (thing.kind, thing.colour, thing.count)
    assert phrase.size == (None if thing.size == "medium" else thing.size)
    assert phrase.pattern == (None if thing.pattern == "plain" else thing.pattern)
    assert said.claim.ground == scene.ground
    assert said.claim.time == (None if scene.time == "day" else scene.time)


@settings(deadline=None, max_examples=80)
@given(st.integers(0, 10**6))
def test_pair_scenes_have_two_things_that_are_both_named(seed: int) -> None:
    rng, habits = random.Random(seed), Statistics(level=PAIR)
    scene = sample_scene(rng, habits)
    assert len(scene.things) == 2
    assert all(0.0 <= edge <= 1.0 for thing in scene.things for box in thing.boxes for edge in box)
    said = Grammar(habits).caption(scene, rng).claim
    named = sorted((phrase.kind, phrase.colour, phrase.count) for phrase in said.phrases)
    assert named == sorted((thing.kind, thing.colour, thing.count) for thing in scene.things)


def test_scenes_of_a_level_are_all_different_and_splits_do_not_hang_on_the_size_of_train() -> None:
    small, large = (sample_splits({"train": n, "val": 20, "test": 40}, 3, SINGLE) for n in (50, 400))
    assert (small["test"], small["val"], small["train"]) == (large["test"], large["val"], large["train"][:50])
    keys = [scene.key for scenes in large.values() for scene in scenes]
    assert len(set(keys)) == len(keys)


def test_a_level_without_that_many_scenes_is_refused() -> None:
    level = Level("1 1", "water 1", "day 1")
    with pytest.raises(
        ValueError, match=r"no new scene in \d+ draws after \d+: ask for fewer images, or another level"
    ):
        sample_splits({"train": 20000, "val": 0, "test": 0}, 0, level)


def test_the_request_names_another_level_than_the_usual_one(tmp_path: Path) -> None:
    request = Request(2, 1, 1, 1, 32, level="single")
    assert write_coco(tmp_path / "made", request)
    assert not write_coco(tmp_path / "made", request)
    assert json.loads((tmp_path / "made" / REQUEST_FILE).read_text())["level"] == "single"
    with pytest.raises(FileExistsError, match="another request"):
        write_coco(tmp_path / "made", Request(2, 1, 1, 1, 32))
    assert "level" not in Request().described()
    with pytest.raises(ValueError, match=f"level must be one of {', '.join(LEVELS)}, got 'hard'"):
        Request(level="hard")
