"""Scenes without images (fast, many) and one small data set on disk."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import pytest

from scenes.coco_layout import Request, write_coco
from scenes.grammar import Grammar
from scenes.sampling import sample_splits
from scenes.statistics import Statistics
from scenes.truths import statement_records, truth_record

REQUEST = Request(train=40, val=10, test=10, captions=2, image_size=64, seed=5)


@pytest.fixture(scope="session")
def records() -> list[dict[str, Any]]:
    """Truth records of 600 scenes, each with two captions and statements about it and its successor."""
    scenes = sample_splits({"train": 600, "val": 0, "test": 0}, seed=11)["train"]
    grammar, rng = Grammar(Statistics()), random.Random(3)
    found = []
    for i, scene in enumerate(scenes):
        record = truth_record(scene, dict(enumerate(grammar.captions(scene, rng, 2))), grammar.statistics, rng)
        record["statements"] = statement_records(scene, scenes[(i + 1) % len(scenes)], i + 1, rng)
        found.append(record)
    as_read: list[dict[str, Any]] = json.loads(json.dumps(found))  # as a reader of the file sees them
    return as_read


@pytest.fixture(scope="session")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The small data set of REQUEST."""
    folder = tmp_path_factory.mktemp("scenes") / "raw"
    assert write_coco(folder, REQUEST)
    return folder
