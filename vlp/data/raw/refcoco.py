"""RefCOCO+: expressions that refer to objects of COCO's training images (the files of the ``refer`` toolkit).

``refcoco+/refs(unc).p`` says which annotation an expression means, ``refcoco+/instances.json`` where that is.
Source: docs/official/albef.md §3.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vlp.data.errors import DataError
from vlp.data.raw.lazy import LazyRecords
from vlp.data.raw.plain_pickle import read_plain_pickle
from vlp.data.raw.records import ReferredObject
from vlp.data.raw.source import Source, read_json

REFS, INSTANCES, DETECTIONS = "refcoco+/refs(unc).p", "refcoco+/instances.json", "refcoco+/dets.json"
SPLITS = ("train", "val", "testA", "testB")
_IMAGES = "train2014"

Box = tuple[float, float, float, float]


@dataclass(frozen=True)
class Instances:
    """Content of ``instances.json``: image id -> file name, (width, height); annotation id -> box (x, y, w, h)."""

    names: dict[int, str]
    sizes: dict[int, tuple[int, int]]
    boxes: dict[int, Box]


def read_refcoco(source: Source) -> dict[str, LazyRecords[ReferredObject]]:
    """Read train, val, testA, testB -> the objects that are referred to, in shuffled order."""
    instances = read_instances(source.root / INSTANCES)
    by_split: dict[str, list[ReferredObject]] = {split: [] for split in SPLITS}
    path = source.root / REFS
    for number, ref in enumerate(read_refs(path)):
        try:
            found = _record(source, ref, instances)
        except (KeyError, TypeError, ValueError, OverflowError, RecursionError) as error:
            raise DataError(f"{path}, element {number} is not in refer's format: {error!r}") from error
        if found.split not in by_split:
            source.skips.add(f"split {found.split!r} is not one of {' '.join(SPLITS)}", f"ref {found.ref_id}")
        elif not found.expressions:
            source.skips.add("object with empty expressions only", f"ref {found.ref_id}")
        else:
            by_split[found.split].append(found)
    _refuse_mixed_images(path, by_split)
    source.found["objects"] = sum(map(len, by_split.values()))
    return {split: _records(source.shuffled(objects)) for split, objects in by_split.items()}


def read_refs(path: Path) -> list[dict[str, Any]]:
    """Read ``refs(unc).p``: a list of dictionaries with ref_id, ann_id, image_id, split and sentences.

    Raises:
        DataError: no such list, or a pickle of more than plain values, which is not run.
    """
    content = read_plain_pickle(path)
    if not isinstance(content, list) or not all(isinstance(ref, dict) for ref in content):
        raise DataError(f"{path} holds no list of dictionaries; is it the file of that name of RefCOCO+?")
    return content


def read_instances(path: Path) -> Instances:
    """Read ``instances.json``: the images with their sizes and the boxes of all annotations.

    Raises:
        DataError: the file is missing or of another format; with the place.
    """
    content = read_json(path)
    names, sizes, boxes, place = {}, {}, {}, "images"
    try:
        for number, image in enumerate(content["images"]):
            place = f"images[{number}]"
            image_id = int(image["id"])
            names[image_id] = _text(image["file_name"])
            sizes[image_id] = int(image["width"]), int(image["height"])
        for number, annotation in enumerate(content["annotations"]):
            place = f"annotations[{number}]"
            x, y, width, height = map(float, annotation["bbox"])
            boxes[int(annotation["id"])] = x, y, width, height
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        raise DataError(
            f"{path}, {place} is not in COCO's format (images[]: id, file_name, width, height; annotations[]: id, "
            f"bbox): {error!r}"
        ) from error
    return Instances(names, sizes, boxes)


def read_detections(path: Path) -> dict[int, list[Box]]:
    """Read ``dets.json``: image id -> the boxes (x, y, width, height) that evaluation chooses from.

    Raises:
        DataError: the file is missing or of another format; with the image.
    """
    content, place = read_json(path), ""
    result: dict[int, list[Box]] = {}
    try:
        for place, boxes in content.items():
            result[int(place)] = [(float(box[0]), float(box[1]), float(box[2]), float(box[3])) for box in boxes]
    except (KeyError, TypeError, ValueError, IndexError, OverflowError, AttributeError) as error:
        raise DataError(
            f"{path}, image {place!r}: expected {{image id: [[x, y, width, height], …]}}: {error!r}"
        ) from error
    return result


def _record(source: Source, ref: dict[str, Any], instances: Instances) -> ReferredObject:
    ref_id, image_id = int(ref["ref_id"]), int(ref["image_id"])
    where = f"ref {ref_id}"
    if image_id not in instances.names:
        raise ValueError(f"image {image_id} is not among the images of {INSTANCES}")
    if (annotation := int(ref["ann_id"])) not in instances.boxes:
        raise ValueError(f"annotation {annotation} is not among those of {INSTANCES}")
    texts = [source.text(sentence["sent"], where) for sentence in ref["sentences"]]
    expressions = tuple(text for text in texts if text.strip())
    if len(expressions) < len(texts):
        source.skips.add("empty expression", where, len(texts) - len(expressions))
    path = source.path(_IMAGES, source.text(instances.names[image_id], where))
    split = source.text(ref["split"], where)
    return ReferredObject(path, image_id, ref_id, split, expressions, instances.boxes[annotation])


def _refuse_mixed_images(path: Path, by_split: dict[str, list[ReferredObject]]) -> None:
    """Raise a DataError if an image is trained on and evaluated."""
    trained = {found.image_id for found in by_split["train"]}
    for split in SPLITS[1:]:
        for found in by_split[split]:
            if found.image_id in trained:
                raise DataError(f"{path}: image {found.image_id} is in split train and in split {split}")


def _records(objects: list[ReferredObject]) -> LazyRecords[ReferredObject]:
    return LazyRecords(range(len(objects)), lambda number, _: objects[number])


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError(f"{str(value)[:80]} is no text")
    return value
