"""X-VLM on real photos with human captions and boxes: both streams, pre-training with EPIC, zero-shot retrieval.

Needs the folder that ``EPIC_REAL_PAIRS`` names (tests/launch/real_pairs.py).
"""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any

import pytest

from tests.launch import real_pairs
from tests.launch.real_pairs import Photos
from tests.launch.test_real_photos import STEPS, photos, pytestmark
from tests.launch.warm_launcher import lent
from tests.launch.xvlm.launcher import Run, XvlmLauncher
from vlp.data.jsonl.convert import Options, make_files

__all__ = ["photos", "pytestmark"]
EPOCHS, BATCH = 2, 8
# Nothing in the model is trained before: a rate for its width, from the first step on.
RATE = ("optimizer.lr=4e-3", "schedular.lr=4e-3", "schedular.num_warmup_steps=0")
BOXES = ("loss_bbox", "loss_giou")


@pytest.fixture(scope="module")
def launcher(photos: Photos, tmp_path_factory: pytest.TempPathFactory) -> Iterator[XvlmLauncher]:
    """Lists and lines of captions and of regions, and a language model fitted to the training captions."""
    data, logs = tmp_path_factory.mktemp("photos"), tmp_path_factory.mktemp("runs")
    real_pairs.write_lists(photos, data)
    real_pairs.write_instances(photos["coco"], data / "coco")
    for name in ("coco", "coco_objs"):
        make_files(name, data / "coco", data / "lines", Options(image_root=str(data), shards=2))
    real_pairs.fit_words(photos["coco"], data, "bert")
    yield from lent(XvlmLauncher(data, logs))


@pytest.fixture(scope="module")
def size(launcher: XvlmLauncher) -> str:
    """The item that says how many tokens the language model has."""
    config = json.loads((launcher.language_model / "config.json").read_text())
    return f"text_config.vocab_size={config['vocab_size']}"


def pretrain(launcher: XvlmLauncher, *items: str) -> Run:
    streams = (f"train_file_regions={launcher.data / 'lines' / 'coco_objs'}", f"images.batch_size={BATCH}")
    length = (f"train_dataset_size={BATCH * STEPS // EPOCHS}", f"schedular.epochs={EPOCHS}")
    return launcher.run("Pretrain", *streams, *length, *RATE, *items)


@pytest.fixture(scope="module")
def vanilla(launcher: XvlmLauncher, size: str) -> Run:
    return pretrain(launcher, size)


@pytest.fixture(scope="module")
def epic(launcher: XvlmLauncher, size: str, vanilla: Run) -> Run:
    return pretrain(launcher, size, "epic.enabled=True", f"teacher_path={vanilla.checkpoint}")


def test_lists_name_the_files_and_hold_the_captions(launcher: XvlmLauncher, photos: Photos) -> None:
    real_pairs.check_lists(photos, launcher.data)


def lines(launcher: XvlmLauncher, name: str) -> list[dict[str, Any]]:
    """The rows of a stream."""
    files = (launcher.data / "lines" / name).glob("*.jsonl")
    return [json.loads(line) for path in files for line in path.read_text(encoding="utf-8").splitlines()]


def edges(box: Sequence[float]) -> tuple[float, ...]:
    x, y, width, height = box
    return x, y, x + width, y + height


def test_lines_hold_the_captions_and_the_boxes(launcher: XvlmLauncher, photos: Photos) -> None:
    """A row for each caption, and one for each photo with objects, whose edges are rounded to pixels."""
    trained = {f"coco/{photo.folder}/{photo.name}": photo for photo in photos["coco"] if photo.trains}
    pairs = Counter((row["image_rpath"], row["caption"]) for row in lines(launcher, "coco"))
    assert pairs == Counter((name, text) for name, photo in trained.items() for text in photo.captions)
    boxed = {row["image_rpath"]: row["elems"] for row in lines(launcher, "coco_objs")}
    assert len(boxed) > 50 and boxed.keys() == {name for name, photo in trained.items() if photo.regions}
    for name, elements in boxed.items():
        regions = trained[name].regions
        assert [element["caption"] for element in elements] == [label for label, _ in regions], name
        for element, (_, box) in zip(elements, regions, strict=True):
            assert edges(element["bb"]) == pytest.approx(edges(box), abs=0.51), name


def test_pre_training_with_epic_learns(vanilla: Run, epic: Run) -> None:
    real_pairs.check_learned([run.values("train/loss_mlm") for run in (vanilla, epic)], epic, STEPS)


def test_so_do_the_boxes_of_regions(vanilla: Run, epic: Run) -> None:
    for run in (vanilla, epic):
        for meter in BOXES:
            losses = run.values(f"train/regions/{meter}")
            assert len(losses) == STEPS // 2 + 1 and all(map(math.isfinite, losses)), meter
            assert sum(losses[-4:]) < sum(losses[:4]), meter


def test_zero_shot_retrieval_counts_every_caption_and_photo(
    launcher: XvlmLauncher, size: str, epic: Run, photos: Photos
) -> None:
    checkpoint = epic.directory / f"model_state_epoch_{EPOCHS - 1}.th"
    items = ("--evaluate", "--checkpoint", str(checkpoint), *real_pairs.zero_shot_items(launcher.data), size)
    results = launcher.run("Retrieval", *items).results
    assert results["baseline"] == "xvlm"
    real_pairs.check_zero_shot(results, photos["f30k"])
