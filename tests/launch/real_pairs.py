"""A folder of real photos with human captions in the raw layouts that the converters read, and what runs on it show.

The folder is named by the environment variable ``EPIC_REAL_PAIRS`` and is no part of the repository. It holds
``captions.jsonl``, a line for each photo: ``image`` (a path below the folder), ``captions``, ``split`` (train, val,
test), ``width``, ``height`` and, for photos of COCO, ``coco_id`` and, for some of them, ``regions`` (``bbox``, x, y,
width and height in pixels, and ``phrase``, the name of its class); photos without ``coco_id`` go into Flickr30k's
layout.
"""

from __future__ import annotations

import json
import math
import os
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import pytest

from epic_common.language_models.fit import FitSettings, fit_language_model
from scenes.coco_layout import karpathy_image
from vlp.data.json.convert import convert

VARIABLE = "EPIC_REAL_PAIRS"
# Data set -> its annotation in Karpathy's layout, and the prefix of its JSON lists.
SETS = {"coco": ("dataset_coco.json", "coco"), "f30k": ("dataset_flickr30k.json", "flickr30k")}
Region = tuple[str, tuple[float, ...]]  # the name of its class, and its box


@dataclass(frozen=True)
class Photo:
    """A photo of the folder under the name that it has in a raw layout."""

    source: Path
    folder: str
    name: str
    split: str
    captions: list[str]
    size: tuple[int, int]  # width and height, pixels
    regions: list[Region]

    @property
    def trains(self) -> bool:
        return self.split in ("train", "restval")


Photos = Mapping[str, Sequence[Photo]]  # by data set


def folder() -> Path | None:
    """The folder that the environment names, if it does."""
    return Path(os.environ[VARIABLE]) if os.environ.get(VARIABLE) else None


def coco_photos(root: Path, **most: int) -> list[Photo]:
    """COCO's photos, at most so many of each split; as in COCO a quarter of the training photos is "restval"."""
    photos = []
    for number, row in enumerate(_rows(root, True, most)):
        split = "restval" if row["split"] == "train" and number % 4 == 3 else row["split"]
        where = "train2014" if split == "train" else "val2014"
        photos.append(_photo(root, row, where, f"COCO_{where}_{row['coco_id']:012d}.jpg", split))
    return photos


def flickr_photos(root: Path, **most: int) -> list[Photo]:
    """The other photos, at most so many of each split."""
    return [
        _photo(root, row, "flickr30k-images", Path(row["image"]).name, row["split"]) for row in _rows(root, False, most)
    ]


# Raw layouts and what is made of them ------------------------------------------------------------------


def write_layout(photos: Sequence[Photo], annotation: str, output: Path) -> None:
    """Write Karpathy's JSON under the name ``annotation`` and the folders of the photos' very bytes."""
    images, sentences = [], 0
    for number, photo in enumerate(photos):
        captions = dict(enumerate(photo.captions, sentences))
        sentences += len(captions)
        images.append(karpathy_image(photo.name, photo.split, number, captions))
        (output / photo.folder).mkdir(parents=True, exist_ok=True)
        shutil.copyfile(photo.source, output / photo.folder / photo.name)
    (output / "karpathy").mkdir()
    (output / "karpathy" / annotation).write_text(json.dumps({"images": images}), encoding="utf-8")


def write_instances(photos: Sequence[Photo], output: Path) -> None:
    """Write ``annotations/instances_{train,val}2014.json``, the regions of COCO's photos in its own format."""
    classes = sorted({name for photo in photos for name, _ in photo.regions})
    (output / "annotations").mkdir(parents=True)
    for part in ("train2014", "val2014"):
        content: dict[str, list[dict[str, Any]]] = {"images": [], "annotations": []}
        content["categories"] = [{"id": number, "name": name} for number, name in enumerate(classes, start=1)]
        for number, photo in enumerate(photos):
            if photo.folder == part:
                width, height = photo.size
                content["images"].append({"id": number, "file_name": photo.name, "width": width, "height": height})
                content["annotations"] += [
                    {"image_id": number, "category_id": 1 + classes.index(name), "bbox": list(box), "iscrowd": 0}
                    for name, box in photo.regions
                ]
        path = output / "annotations" / f"instances_{part}.json"
        path.write_text(json.dumps(content), encoding="utf-8")


def write_lists(photos: Photos, data: Path) -> None:
    """Write the layouts of both data sets below ``data``, and their JSON lists into ``data/lists``."""
    for key, (annotation, _) in SETS.items():
        write_layout(photos[key], annotation, data / key)
        convert(key, data / key, data / "lists", quiet=True)


def fit_words(photos: Sequence[Photo], data: Path, family: str) -> None:
    """Fit a language model to the captions of the training split and write it into ``data/{family}-tiny``."""
    texts = [text for photo in photos if "train" in photo.folder for text in photo.captions]
    (data / "captions.txt").write_text("\n".join(texts), encoding="utf-8")
    sizes = FitSettings(family=family, steps=200, batch_size=16, layers=1, vocab_size=600)
    fit_language_model(data / "captions.txt", data / f"{family}-tiny", sizes)


# Checks ------------------------------------------------------------------------------------------------


class Logged(Protocol):
    """A run and its metrics."""

    def values(self, tag: str) -> list[float]:
        """Those of every step."""


def check_learned(mlm_losses: Sequence[Sequence[float]], epic: Logged, steps: int) -> None:
    """Whether runs of ``steps`` steps bring MLM's loss down, and the one with EPIC its own."""
    for losses in mlm_losses:
        assert len(losses) == steps and all(math.isfinite(loss) for loss in losses)
        assert sum(losses[-5:]) < 0.95 * sum(losses[:5])
    consistency = epic.values("epic/train/epic_itc")
    assert len(consistency) == steps and consistency[-1] < consistency[0]
    # The language model gives back some of the words that it replaces.
    assert 0 < sum(epic.values("epic/train/epic_replaced_share")) / steps < 1


def check_lists(photos: Photos, data: Path) -> None:
    """Whether the lists of :func:`write_lists` name each photo, which is there byte by byte, with its captions."""
    for key, (_, prefix) in SETS.items():
        found: dict[str, tuple[str, list[str]]] = {}
        for split in ("train", "val", "test"):
            path = data / "lists" / f"{prefix}_{split}.json"
            for row in json.loads(path.read_text(encoding="utf-8")):
                captions = row["caption"] if split != "train" else [row["caption"]]
                found.setdefault(row["image"], (split, []))[1].extend(captions)
        assert found == {
            f"{photo.folder}/{photo.name}": ("train" if photo.trains else photo.split, photo.captions)
            for photo in photos[key]
        }
        for photo in photos[key]:
            assert (data / key / photo.folder / photo.name).read_bytes() == photo.source.read_bytes()


def zero_shot_items(data: Path) -> list[str]:
    """What lets a Retrieval.py score the test photos of Flickr30k's layout."""
    lists = [f"{split}_file={data / 'lists' / f'flickr30k_{split}.json'}" for split in ("val", "test")]
    return [*lists, f"image_root={data / 'f30k'}", "batch_size_train=8", "k_test=2"]


def check_zero_shot(results: Mapping[str, Any], photos: Sequence[Photo]) -> None:
    """Whether the ``results.json`` of :func:`zero_shot_items` counts every caption and photo of the test split."""
    images = [photo for photo in photos if photo.split == "test"]
    assert results["items"]["test"] == len(images)
    captions = sum(len(photo.captions) for photo in images)
    for way, count in (("img", captions), ("txt", len(images))):
        check_recalls([results["metrics"][f"test_{way}_r{k}"] / 100 for k in (1, 5, 10)], count)


def check_recalls(shares: Sequence[float], count: int) -> None:
    """Whether the recalls at 1, 5 and 10 are shares of ``count`` queries."""
    one, five, ten = shares
    assert 0 <= one <= five <= ten <= 1 and ten > 0
    for share in shares:
        assert share * count == pytest.approx(round(share * count), abs=1e-4)


def _photo(root: Path, row: dict[str, Any], where: str, name: str, split: str) -> Photo:
    regions = [(region["phrase"], tuple(region["bbox"])) for region in row.get("regions", [])]
    return Photo(root / row["image"], where, name, split, row["captions"], (row["width"], row["height"]), regions)


def _rows(root: Path, of_coco: bool, most: dict[str, int]) -> list[dict[str, Any]]:
    lines = (root / "captions.jsonl").read_text(encoding="utf-8").splitlines()
    rows = [row for row in map(json.loads, lines) if (row.get("coco_id") is not None) == of_coco and row["captions"]]
    return [row for split, count in most.items() for row in [r for r in rows if r["split"] == split][:count]]
