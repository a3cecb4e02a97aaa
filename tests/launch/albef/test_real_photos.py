"""ALBEF on real photos with human captions: the converters, pre-training with EPIC and zero-shot retrieval.

Needs the folder that ``EPIC_REAL_PAIRS`` names (tests/launch/real_pairs.py).
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator

import pytest

from epic_common.language_models.fit import FitSettings, fit_language_model
from tests.launch import real_pairs
from tests.launch.albef.launcher import AlbefLauncher, Run
from tests.launch.test_real_photos import STEPS, Photos, photos, pytestmark
from vlp.data.json.convert import convert

PREFIX = {"coco": "coco", "f30k": "flickr30k"}  # data set -> of its lists
__all__ = ["photos", "pytestmark"]
# Nothing in the model is trained before: a rate for its width, from the first step on.
RATE = ("optimizer.lr=4e-3", "schedular.lr=4e-3", "schedular.warmup_epochs=0")


@pytest.fixture(scope="module")
def launcher(photos: Photos, tmp_path_factory: pytest.TempPathFactory) -> Iterator[AlbefLauncher]:
    """Lists by the converters, and a language model fitted to the training captions."""
    data, logs = tmp_path_factory.mktemp("photos"), tmp_path_factory.mktemp("runs")
    for key, annotation in (("coco", "dataset_coco.json"), ("f30k", "dataset_flickr30k.json")):
        real_pairs.write_layout(photos[key], annotation, data / key)
        convert(key, data / key, data / "lists", quiet=True)
    texts = [text for photo in photos["coco"] if "train" in photo.folder for text in photo.captions]
    (data / "captions.txt").write_text("\n".join(texts), encoding="utf-8")
    sizes = FitSettings(family="bert", steps=200, batch_size=16, layers=1, vocab_size=600)
    fit_language_model(data / "captions.txt", data / "bert-tiny", sizes)
    launcher = AlbefLauncher(data, logs)
    yield launcher
    launcher.close()
    shutil.rmtree(logs)


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
    return pretrain(launcher, size, "epic.enabled=True", "epic.append_sep=True", f"teacher_path={vanilla.checkpoint}")


def test_lists_name_the_files_and_hold_the_captions(launcher: AlbefLauncher, photos: Photos) -> None:
    for key, expected in photos.items():
        found: dict[str, tuple[str, list[str]]] = {}
        for split in ("train", "val", "test"):
            path = launcher.data / "lists" / f"{PREFIX[key]}_{split}.json"
            for row in json.loads(path.read_text(encoding="utf-8")):
                captions = row["caption"] if split != "train" else [row["caption"]]
                found.setdefault(row["image"], (split, []))[1].extend(captions)
        assert found == {
            f"{photo.folder}/{photo.name}": ("train" if photo.split == "restval" else photo.split, photo.captions)
            for photo in expected
        }
        for photo in expected:
            image = launcher.data / key / photo.folder / photo.name
            assert image.read_bytes() == photo.source.read_bytes()


def test_pre_training_with_epic_learns(vanilla: Run, epic: Run) -> None:
    real_pairs.check_learned([run.values("train/loss_mlm") for run in (vanilla, epic)], epic, STEPS)


def test_zero_shot_retrieval_counts_every_caption_and_photo(
    launcher: AlbefLauncher, size: str, epic: Run, photos: Photos
) -> None:
    lists = [f"{split}_file={launcher.data / 'lists' / f'flickr30k_{split}.json'}" for split in ("val", "test")]
    own = (*lists, f"image_root={launcher.data / 'f30k'}", "batch_size_train=8", "k_test=2", size)
    results = launcher.run("Retrieval", "--evaluate", "--checkpoint", str(epic.checkpoint), *own).results
    images = [photo for photo in photos["f30k"] if photo.split == "test"]
    assert results["baseline"] == "albef" and results["items"]["test"] == len(images)
    captions = sum(len(photo.captions) for photo in images)
    for way, count in (("img", captions), ("txt", len(images))):
        one, five, ten = (results["metrics"][f"test_{way}_r{k}"] / 100 for k in (1, 5, 10))
        assert 0 <= one <= five <= ten <= 1 and ten > 0
        for share in (one, five, ten):
            assert share * count == pytest.approx(round(share * count), abs=1e-4)
