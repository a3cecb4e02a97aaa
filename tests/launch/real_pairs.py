"""A folder of real photos with human captions in the raw layouts that the COCO and Flickr30k converters read.

The folder is named by the environment variable ``EPIC_REAL_PAIRS`` and is no part of the repository. It holds
``captions.jsonl``, a line for each photo: ``image`` (a path below the folder), ``captions``, ``split`` (train, val,
test) and, for photos of COCO, ``coco_id``; photos without one go into Flickr30k's layout.
"""

from __future__ import annotations

import json
import math
import os
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from scenes.coco_layout import karpathy_image

VARIABLE = "EPIC_REAL_PAIRS"


@dataclass(frozen=True)
class Photo:
    """A photo of the folder under the name that it has in a raw layout."""

    source: Path
    folder: str
    name: str
    split: str
    captions: list[str]


def folder() -> Path | None:
    """The folder that the environment names, if it does."""
    return Path(os.environ[VARIABLE]) if os.environ.get(VARIABLE) else None


def coco_photos(root: Path, **most: int) -> list[Photo]:
    """COCO's photos, at most so many of each split; as in COCO a quarter of the training photos is "restval"."""
    photos = []
    for number, row in enumerate(_rows(root, True, most)):
        split = "restval" if row["split"] == "train" and number % 4 == 3 else row["split"]
        where = "train2014" if split == "train" else "val2014"
        name = f"COCO_{where}_{row['coco_id']:012d}.jpg"
        photos.append(Photo(root / row["image"], where, name, split, row["captions"]))
    return photos


def flickr_photos(root: Path, **most: int) -> list[Photo]:
    """The other photos, at most so many of each split."""
    return [
        Photo(root / row["image"], "flickr30k-images", Path(row["image"]).name, row["split"], row["captions"])
        for row in _rows(root, False, most)
    ]


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


def _rows(root: Path, of_coco: bool, most: dict[str, int]) -> list[dict[str, Any]]:
    lines = (root / "captions.jsonl").read_text(encoding="utf-8").splitlines()
    rows = [row for row in map(json.loads, lines) if (row.get("coco_id") is not None) == of_coco and row["captions"]]
    return [row for split, count in most.items() for row in [r for r in rows if r["split"] == split][:count]]
