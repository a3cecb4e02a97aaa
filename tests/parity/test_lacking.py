"""Fixtures that lack a piece: what is left is compared, and what is not is named."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from tests.parity.fixture import FIXTURES, PLAIN, Fixture
from tests.parity.runner import Outcome, read, run

SLOW_ARRAYS = ("masking_", "meter.mask", "mask_")


def without(path: Path, folder: Path, pieces: set[str], outputs: set[str]) -> Path:
    """A copy that lacks these inputs and choices, with their arrays, and these outputs."""
    meta: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    with np.load(path.with_suffix(".npz")) as file:
        stored = dict(file)
    gone: set[str | None] = set(outputs)
    for block in ("inputs", "choices"):
        for name in pieces & (meta[block] or {}).keys():
            gone.add(meta[block].pop(name).get("array"))
    meta["arrays"] = {name: array for name, array in meta["arrays"].items() if name not in gone}
    np.savez(folder / path.with_suffix(".npz").name, **{name: stored[name] for name in meta["arrays"]})
    copy = folder / path.name
    copy.write_text(json.dumps(meta), encoding="utf-8")
    return copy


def replayed(path: Path) -> Outcome:
    fixture, replay = read(path)
    assert replay is not None
    return run(fixture, replay, PLAIN)


def test_vilts_data_without_the_names_of_its_operations(tmp_path: Path) -> None:
    path = FIXTURES / "vilt/golden_data.json"
    slow = {name for name in Fixture(path).required(PLAIN) if name.startswith(SLOW_ARRAYS)}
    outcome = replayed(without(path, tmp_path, {"randaug_ops"}, slow))
    assert outcome.passed and outcome.lacks == ["randaug_ops"] and not outcome.left_out


def test_a_map_that_no_image_block_has(tmp_path: Path) -> None:
    """A block that the text encoder has and the image encoder, of depth 3, has not: no map by features is stored."""
    path = FIXTURES / "albef/golden_tiny_retrieval.json"
    maps = {name for name in Fixture(path).required(PLAIN) if name.startswith("gradcam.")}
    copy = without(path, tmp_path, set(), maps - {"gradcam.itm_logits"})
    with np.load(copy.with_suffix(".npz")) as file:
        stored = dict(file)
    assert Fixture(copy).arch["vision"]["depth"] == 3
    np.savez(copy.with_suffix(".npz"), **{**stored, "gradcam_block": np.array(3)})
    outcome = replayed(copy)
    assert outcome.passed and not outcome.left_out
