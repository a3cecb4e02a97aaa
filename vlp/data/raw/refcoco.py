"""RefCOCO+ and its sisters: expressions that refer to objects of COCO's training images (``refer``'s files).

``refcoco+/refs(unc).p`` says which annotation an expression means, ``refcoco+/instances.json`` where that is.
Source: docs/official/albef.md §3; docs/official/xvlm.md §3.2.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vlp.data.boxes import box_numbers
from vlp.data.conversion.skips import Skips
from vlp.data.errors import DataError
from vlp.data.raw.lazy import LazyRecords
from vlp.data.raw.plain_pickle import read_plain_pickle
from vlp.data.raw.records import BoxedImage, LabelledBox, ReferredObject
from vlp.data.raw.source import Source, read_json

REFS, INSTANCES, DETECTIONS = "refcoco+/refs(unc).p", "refcoco+/instances.json", "refcoco+/dets.json"
SPLITS = ("train", "val", "testA", "testB")
# RefCOCO, RefCOCO+ and RefCOCOg: folder and file of the references; in each folder lies an instances.json.
FAMILY = {"refcoco": "refs(unc).p", "refcoco+": "refs(unc).p", "refcocog": "refs(umd).p"}
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
    by_split: dict[str, list[ReferredObject]] = {split: [] for split in SPLITS}
    for found in _objects(source, REFS, INSTANCES):
        if found.split not in by_split:
            source.skips.add(f"split {found.split!r} is not one of {' '.join(SPLITS)}", f"ref {found.ref_id}")
        else:
            by_split[found.split].append(found)
    _refuse_mixed_images(source.root / REFS, by_split)
    source.found["objects"] = sum(map(len, by_split.values()))
    return {split: _records(source.shuffled(objects)) for split, objects in by_split.items()}


def read_referred_images(source: Source) -> LazyRecords[BoxedImage]:
    """Read the training images of RefCOCO, RefCOCO+ and RefCOCOg, as many as are there: objects with expressions.

    An image that one of them evaluates on is left out, whatever the others do with it.
    """
    trained: dict[int, list[ReferredObject]] = {}
    for folder, refs in FAMILY.items():
        if source.optional(folder, f"{folder}/{refs}", f"{folder}/instances.json"):
            for found in _objects(source, f"{folder}/{refs}", f"{folder}/instances.json"):
                if found.split == "train":
                    trained.setdefault(found.image_id, []).append(found)
    if not trained:
        raise DataError(
            f"no objects to train on under {source.root}: expected refcoco/refs(unc).p with instances.json, and the "
            "same of refcoco+ and refcocog (refs(umd).p); see docs/data.md for the raw layout"
        )
    for image in sorted(set(trained) & read_evaluated(source.root)):
        source.skips.add("training image that another split evaluates on", trained.pop(image)[0].path.name)
    source.found["objects"] = sum(map(len, trained.values()))
    images = source.shuffled(list(trained.values()))

    def build(number: int, _: Skips) -> BoxedImage:
        return BoxedImage(images[number][0].path, tuple(_merged(images[number])), images[number][0].frame)

    return LazyRecords(range(len(images)), build)


def read_evaluated(root: Path) -> frozenset[int]:
    """Read the ids of the images that RefCOCO, RefCOCO+ and RefCOCOg, as many as are there, evaluate on.

    Raises:
        DataError: none of the three is there, or one of them is in another format.
    """
    paths = [path for folder, refs in FAMILY.items() if (path := root / folder / refs).exists()]
    if not paths:
        expected = ", ".join(f"{folder}/{refs}" for folder, refs in FAMILY.items())
        raise DataError(f"{root} holds none of {expected}; see docs/data.md for the raw layout")
    evaluated: set[int] = set()
    for path in paths:
        for number, ref in enumerate(read_refs(path)):
            try:
                if ref["split"] != "train":
                    evaluated.add(int(ref["image_id"]))
            except (KeyError, TypeError, ValueError, OverflowError) as error:
                raise DataError(f"{path}, element {number} is not in refer's format: {error!r}") from error
    return frozenset(evaluated)


def _merged(objects: list[ReferredObject]) -> list[LabelledBox]:
    """One box for all expressions of one object, which the three data sets may share."""
    expressions: dict[Box, list[str]] = {}
    for found in objects:
        expressions.setdefault(found.box, []).extend(found.expressions)
    return [LabelledBox(tuple(dict.fromkeys(texts)), box) for box, texts in expressions.items()]


def _objects(source: Source, refs: str, instances_file: str) -> Iterator[ReferredObject]:
    """Yield the objects of a file of references that an expression means, in its order."""
    instances, path = read_instances(source.root / instances_file), source.root / refs
    for number, ref in enumerate(read_refs(path)):
        try:
            found = _record(source, ref, instances, instances_file)
        except (KeyError, TypeError, ValueError, OverflowError, RecursionError) as error:
            raise DataError(f"{path}, element {number} is not in refer's format: {error!r}") from error
        if found.expressions:
            yield found
        else:
            source.skips.add("object with empty expressions only", f"ref {found.ref_id}")


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
            boxes[int(annotation["id"])] = box_numbers(annotation["bbox"])
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
            result[int(place)] = [box_numbers(box[:4]) for box in boxes]
    except (KeyError, TypeError, ValueError, IndexError, OverflowError, AttributeError) as error:
        raise DataError(
            f"{path}, image {place!r}: expected {{image id: [[x, y, width, height], …]}}: {error!r}"
        ) from error
    return result


def _record(source: Source, ref: dict[str, Any], instances: Instances, instances_file: str) -> ReferredObject:
    ref_id, image_id = int(ref["ref_id"]), int(ref["image_id"])
    where = f"ref {ref_id}"
    if image_id not in instances.names:
        raise ValueError(f"image {image_id} is not among the images of {instances_file}")
    if (annotation := int(ref["ann_id"])) not in instances.boxes:
        raise ValueError(f"annotation {annotation} is not among those of {instances_file}")
    texts = [source.text(sentence["sent"], where) for sentence in ref["sentences"]]
    expressions = tuple(text for text in texts if text.strip())
    if len(expressions) < len(texts):
        source.skips.add("empty expression", where, len(texts) - len(expressions))
    path = source.path(_IMAGES, source.text(instances.names[image_id], where))
    split = source.text(ref["split"], where)
    box, frame = instances.boxes[annotation], instances.sizes[image_id]
    return ReferredObject(path, image_id, ref_id, split, expressions, box, frame)


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
