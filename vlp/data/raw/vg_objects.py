"""Visual Genome's objects with their attributes: two long JSON lists beside the two image folders.

Source: docs/official/xvlm.md §3.2.
"""

from __future__ import annotations

import sys
from typing import Any

from vlp.data.conversion.skips import Skips
from vlp.data.errors import DataError
from vlp.data.json_stream import iter_json_list
from vlp.data.raw.boxes import BoxTable
from vlp.data.raw.lazy import LazyRecords
from vlp.data.raw.records import BoxedImage, LabelledBox
from vlp.data.raw.source import Source, require_file
from vlp.data.raw.vg import annotated_images

_OBJECTS, _ATTRIBUTES = "annotations/objects.json", "annotations/attributes.json"
_IMAGES = "annotations/image_data.json"
_Words = tuple[str, ...]


def read_vg_objects(source: Source) -> LazyRecords[BoxedImage]:
    """Read ``annotations/objects.json``, and ``attributes.json`` if it is there: the images in shuffled order.

    An object's names are wordings of one thing. Objects are matched with their attributes by ``object_id``.
    """
    attributes = _read_attributes(source) if source.optional("attributes", _ATTRIBUTES) else {}
    boxes, names, attributed = _read_objects(source, attributes)
    paths = annotated_images(source, dict.fromkeys(map(str, boxes.images())))

    def build(number: int, _: Skips) -> BoxedImage:
        path = paths[number]
        found = (
            LabelledBox(names[label], box, attributed.get(place, ())) for place, label, box in boxes.of(int(path.stem))
        )
        return BoxedImage(path, tuple(found))

    return LazyRecords(range(len(paths)), build)


def read_coco_ids(source: Source) -> dict[str, int]:
    """Read ``annotations/image_data.json``: image id -> id of the same image in COCO, for those that come from it."""
    result: dict[str, int] = {}
    path, number = source.root / _IMAGES, 0
    require_file(path)
    try:
        for image in iter_json_list(path):
            number += 1
            if image["coco_id"] is not None:
                result[str(int(image["image_id"]))] = int(image["coco_id"])
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        raise DataError(
            f"{path} is not in Visual Genome's format (list of image_id, coco_id): {error!r} at element {number}"
        ) from error
    return result


def _read_attributes(source: Source) -> dict[int, _Words]:
    """Return the attributes of each object that has any, by its id."""
    path, number = source.root / _ATTRIBUTES, 0
    result: dict[int, _Words] = {}
    try:
        for image in iter_json_list(path):
            number += 1
            for entry in image["attributes"]:
                if words := _words(source, entry.get("attributes") or [], f"attributes of element {number}"):
                    result[int(entry["object_id"])] = words
    except (KeyError, TypeError, AttributeError, ValueError, OverflowError) as error:
        raise DataError(
            f"{path} is not in Visual Genome's format (list of attributes[]: object_id, attributes[]): {error!r} at "
            f"element {number}"
        ) from error
    return result


def _read_objects(source: Source, attributes: dict[int, _Words]) -> tuple[BoxTable, list[_Words], dict[int, _Words]]:
    """Return the boxes, labelled by their place in the list of names, and the attributes by number of the box."""
    path, number = source.root / _OBJECTS, 0
    require_file(path)
    boxes, labels, attributed = BoxTable(), dict[_Words, int](), dict[int, _Words]()
    try:
        for image in iter_json_list(path):
            number += 1
            image_id = int(image["image_id"])
            for entry in image["objects"]:
                names = _words(source, entry["names"], f"object of image {image_id}")
                if not names:
                    source.skips.add("object without a name", f"object of image {image_id}")
                    continue
                if words := attributes.get(int(entry["object_id"])):
                    attributed[len(boxes)] = words
                sides = [float(entry[side]) for side in "xywh"]
                boxes.add(image_id, labels.setdefault(names, len(labels)), sides)
    except (KeyError, TypeError, AttributeError, ValueError, OverflowError) as error:
        raise DataError(
            f"{path} is not in Visual Genome's format (list of image_id, objects[]: object_id, names[], x, y, w, h): "
            f"{error!r} at element {number}"
        ) from error
    boxes.group()
    source.found["objects"], source.found["objects with attributes"] = len(boxes), len(attributed)
    return boxes, list(labels), attributed


def _words(source: Source, texts: list[Any], where: str) -> _Words:
    """Return the texts that are not blank, each once; the same words are held once, for there are millions."""
    if not isinstance(texts, list):
        raise TypeError(f"{str(texts)[:80]} is no list of texts")
    kept = (sys.intern(source.text(text, where).strip()) for text in texts)
    return tuple(dict.fromkeys(filter(None, kept)))
