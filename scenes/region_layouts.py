"""Writes the objects of drawn scenes, with their boxes, as COCO, Objects365, OpenImages and Visual Genome publish them.

The boxes are those that the objects were drawn in. Source: docs/official/xvlm.md §3.2.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from PIL import Image

from scenes.draw import pixel_box
from scenes.layout_files import TRAINING, Record, copy, image_file, write_text
from scenes.model import Box
from scenes.statistics import KINDS
from scenes.words import words_for

_PATCHES = 3  # folders of Objects365's images
_CATEGORIES = [{"id": number, "name": kind} for number, kind in enumerate(KINDS, start=1)]
_COLUMNS = (
    "ImageID Source LabelName Confidence XMin XMax YMin YMax IsOccluded IsTruncated IsGroupOf IsDepiction IsInside"
)


class DrawnObject(NamedTuple):
    """An object of a scene: its kind, what can be said of its looks, and its box in pixels (x, y, width, height)."""

    kind: str
    looks: tuple[str, ...]
    box: tuple[int, int, int, int]


def objects(record: Record, side: int) -> Iterator[DrawnObject]:
    """Yield every object of a truth record; ``side`` is that of the image in pixels."""
    for thing in record["scene"]["things"]:
        looks = [thing["colour"]]
        looks += [thing["size"]] if thing["size"] != "medium" else []
        looks += [thing["pattern"]] if thing["pattern"] != "plain" else []
        for box in thing["boxes"]:
            x0, y0, x1, y1 = pixel_box(Box(*box), side)
            yield DrawnObject(thing["kind"], tuple(looks), (x0, y0, x1 - x0, y1 - y0))


def write_coco_objects(scenes: Path, records: list[Record], root: Path) -> None:
    """COCO with Karpathy's splits and ``annotations/instances_{train,val}2014.json``, of all splits' images."""
    copy(scenes / "karpathy/dataset_coco.json", root / "karpathy/dataset_coco.json")
    for folder in ("train2014", "val2014"):
        images = [record for record in records if record["filepath"] == folder]
        for record in images:
            copy(image_file(scenes, record), root / folder / record["filename"])
        named = {record["cocoid"]: record["filename"] for record in images}
        content = _instances(scenes, images, named)
        write_text(root / f"annotations/instances_{folder}.json", json.dumps(content))


def write_objects365(scenes: Path, records: list[Record], root: Path) -> None:
    """Objects365: training images alone; ``file_name`` has more folders than the archives."""
    images = [record for record in records if record["split"] in TRAINING]
    named = {}
    for number, record in enumerate(images):
        place = f"patch{number % _PATCHES}/objects365_v1_{record['cocoid']:08d}.jpg"
        copy(image_file(scenes, record), root / "train" / place)
        named[record["cocoid"]] = f"images/v1/{place}"
    write_text(root / "zhiyuan_objv2_train.json", json.dumps(_instances(scenes, images, named)))


def write_openimages(scenes: Path, records: list[Record], root: Path) -> None:
    """OpenImages: training images alone; boxes are shares of the image."""
    labels = {kind: f"/m/{number:05x}" for number, kind in enumerate(KINDS, start=1)}
    table = io.StringIO()
    lines = csv.writer(table, lineterminator="\n")
    lines.writerow(_COLUMNS.split())
    for record in records:
        if record["split"] in TRAINING:
            name, side = f"{record['cocoid']:016x}", _side(scenes, record)
            copy(image_file(scenes, record), root / "train" / f"{name}.jpg")
            for drawn in objects(record, side):
                x, y, width, height = (length / side for length in drawn.box)
                sides = (f"{share:.6f}" for share in (x, x + width, y, y + height))
                lines.writerow([name, "xclick", labels[drawn.kind], 1, *sides, 0, 0, 0, 0, 0])
    write_text(root / "oidv6-train-annotations-bbox.csv", table.getvalue())
    classes = "".join(f"{label},{kind.capitalize()}\n" for kind, label in labels.items())
    write_text(root / "class-descriptions-boxable.csv", classes)


def write_vg_objects(scenes: Path, records: list[Record], root: Path) -> None:
    """Visual Genome's ``objects.json``, ``attributes.json`` and ``image_data.json``; the images are there."""
    found, attributes, images = [], [], []
    for record in records:
        image, side = record["cocoid"], _side(scenes, record)
        entries = []
        for number, drawn in enumerate(objects(record, side)):
            x, y, width, height = drawn.box
            ids = {"object_id": 1000 * image + number, "names": list(words_for("kind", drawn.kind))}
            entries.append(({**ids, "x": x, "y": y, "w": width, "h": height}, list(drawn.looks)))
        found.append({"image_id": image, "objects": [entry for entry, _ in entries]})
        described = [{**entry, "attributes": looks} for entry, looks in entries]
        attributes.append({"image_id": image, "attributes": described})
        images.append({"image_id": image, "coco_id": image, "width": side, "height": side})
    for name, content in (("objects", found), ("attributes", attributes), ("image_data", images)):
        write_text(root / f"annotations/{name}.json", json.dumps(content))


def _instances(scenes: Path, records: list[Record], named: dict[int, str]) -> Record:
    """COCO's format."""
    images: list[Record] = []
    annotations: list[Record] = []
    for record in records:
        image, side = record["cocoid"], _side(scenes, record)
        images.append({"id": image, "file_name": named[image], "width": side, "height": side})
        for drawn in objects(record, side):
            ids = {"id": len(annotations) + 1, "image_id": image, "category_id": KINDS.index(drawn.kind) + 1}
            annotations.append({**ids, "bbox": list(drawn.box), "area": drawn.box[2] * drawn.box[3], "iscrowd": 0})
    return {"images": images, "annotations": annotations, "categories": _CATEGORIES}


def _side(scenes: Path, record: Record) -> int:
    with Image.open(image_file(scenes, record)) as image:
        return image.width
