"""Real photos and human captions through the converters, pre-training with EPIC and zero-shot retrieval.

Needs the folder that ``EPIC_REAL_PAIRS`` names (tests/launch/real_pairs.py).
"""

from __future__ import annotations

import importlib
import json
from collections.abc import Iterator

import pytest

from tests.launch import real_pairs
from tests.launch.launcher import Launcher, Result
from tests.launch.real_pairs import Photos
from tests.launch.warm_launcher import lent
from tests.unit.data.raw import read_table
from vlp.baseline import get_baseline
from vlp.sacred_dialect.baseline import sacred_baselines

pytestmark = pytest.mark.skipif(real_pairs.folder() is None, reason=f"{real_pairs.VARIABLE} names no folder of photos")
STEPS = 30


@pytest.fixture(scope="module", params=sacred_baselines())
def baseline(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture(scope="module")
def photos() -> Photos:
    root = real_pairs.folder()
    assert root is not None
    return {
        "coco": real_pairs.coco_photos(root, train=160, val=8, test=12),
        "f30k": real_pairs.flickr_photos(root, train=4, val=2, test=24),
    }


@pytest.fixture(scope="module")
def launcher(baseline: str, photos: Photos, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Launcher]:
    """Tables by the baseline's own converters, and a language model fitted to the training captions."""
    data = tmp_path_factory.mktemp("photos")
    for key, module in (("coco", "write_coco_karpathy"), ("f30k", "write_f30k_karpathy")):
        real_pairs.write_layout(photos[key], real_pairs.SETS[key][0], data / key)
        importlib.import_module(f"{baseline}.utils.{module}").make_arrow(str(data / key), str(data / "arrow"))
    real_pairs.fit_words(photos["coco"], data, get_baseline(baseline).text_family)
    logs = tmp_path_factory.mktemp("runs")
    yield from lent(Launcher(baseline, data, logs))


@pytest.fixture(scope="module")
def vanilla(launcher: Launcher) -> Result:
    return launcher.pretrain(f"max_steps={STEPS}")


@pytest.fixture(scope="module")
def epic(launcher: Launcher, vanilla: Result) -> Result:
    return launcher.pretrain(f"max_steps={STEPS}", "epic", f"teacher_path={vanilla.checkpoint}")


def test_tables_hold_the_files_and_the_captions(launcher: Launcher, photos: Photos) -> None:
    for key, expected in photos.items():
        rows = [
            row
            for path in (launcher.data / "arrow").glob(f"{key}_caption_karpathy_*.arrow")
            for row in read_table(path)
        ]
        found = {row["image_id"]: (row["split"], row["caption"], row["image"]) for row in rows}
        assert len(rows) == len(expected) and found == {
            photo.name: (photo.split, photo.captions, photo.source.read_bytes()) for photo in expected
        }


def test_pre_training_with_epic_learns(vanilla: Result, epic: Result) -> None:
    real_pairs.check_learned([run.values("mlm/train/loss") for run in (vanilla, epic)], epic, STEPS)


def test_zero_shot_retrieval_counts_every_caption_and_photo(launcher: Launcher, epic: Result, photos: Photos) -> None:
    run = launcher.retrieve(epic.checkpoint, "datasets=['f30k']")
    results = json.loads((run.directory / "results.json").read_text())
    assert (results["baseline"], results["datasets"], results["eval_split"]) == (launcher.name, ["f30k"], "test")
    images = [photo for photo in photos["f30k"] if photo.split == "test"]
    captions = sum(len(dict.fromkeys(photo.captions)) for photo in images)
    for way, count in (("ir", captions), ("tr", len(images))):
        real_pairs.check_recalls([results["metrics"][f"recalls/{way}_r{k}"] for k in (1, 5, 10)], count)
