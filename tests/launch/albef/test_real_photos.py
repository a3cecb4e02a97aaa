"""ALBEF on real photos with human captions: the converters, pre-training with EPIC and zero-shot retrieval.

Needs the folder that ``EPIC_REAL_PAIRS`` names (tests/launch/real_pairs.py).
"""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest

from tests.launch import real_pairs
from tests.launch.albef.launcher import AlbefLauncher, Run
from tests.launch.real_pairs import Photos
from tests.launch.test_real_photos import STEPS, photos, pytestmark
from tests.launch.warm_launcher import lent

__all__ = ["photos", "pytestmark"]
# Nothing in the model is trained before: a rate for its width, from the first step on.
RATE = ("optimizer.lr=4e-3", "schedular.lr=4e-3", "schedular.warmup_epochs=0")


@pytest.fixture(scope="module")
def launcher(photos: Photos, tmp_path_factory: pytest.TempPathFactory) -> Iterator[AlbefLauncher]:
    """Lists by the converters, and a language model fitted to the training captions."""
    data, logs = tmp_path_factory.mktemp("photos"), tmp_path_factory.mktemp("runs")
    real_pairs.write_lists(photos, data)
    real_pairs.fit_words(photos["coco"], data, "bert")
    yield from lent(AlbefLauncher(data, logs))


@pytest.fixture(scope="module")
def size(launcher: AlbefLauncher) -> str:
    """The item that says how many tokens the language model has."""
    config = json.loads((launcher.language_model / "config.json").read_text())
    return f"bert_config.vocab_size={config['vocab_size']}"


def pretrain(launcher: AlbefLauncher, *items: str) -> Run:
    own = (f"image_root={launcher.data / 'coco'}", "batch_size=8", f"max_steps={STEPS}", *RATE)
    return launcher.run("Pretrain", *own, *items)


@pytest.fixture(scope="module")
def vanilla(launcher: AlbefLauncher, size: str) -> Run:
    return pretrain(launcher, size)


@pytest.fixture(scope="module")
def epic(launcher: AlbefLauncher, size: str, vanilla: Run) -> Run:
    return pretrain(launcher, size, "epic.enabled=True", f"teacher_path={vanilla.checkpoint}")


def test_lists_name_the_files_and_hold_the_captions(launcher: AlbefLauncher, photos: Photos) -> None:
    real_pairs.check_lists(photos, launcher.data)


def test_pre_training_with_epic_learns(vanilla: Run, epic: Run) -> None:
    real_pairs.check_learned([run.values("train/loss_mlm") for run in (vanilla, epic)], epic, STEPS)


def test_zero_shot_retrieval_counts_every_caption_and_photo(
    launcher: AlbefLauncher, size: str, epic: Run, photos: Photos
) -> None:
    items = ("--evaluate", "--checkpoint", str(epic.checkpoint), *real_pairs.zero_shot_items(launcher.data), size)
    results = launcher.run("Retrieval", *items).results
    assert results["baseline"] == "albef"
    real_pairs.check_zero_shot(results, photos["f30k"])
