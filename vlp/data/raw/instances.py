"""Objects with class names in COCO's format: those of COCO itself and of Objects365.

Source: docs/official/xvlm.md §3.2.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from vlp.data.conversion.skips import Skips
from vlp.data.errors import DataError
from vlp.data.json_stream import iter_json_members
from vlp.data.raw.boxes import BoxTable
from vlp.data.raw.karpathy import read_coco
from vlp.data.raw.lazy import LazyRecords
from vlp.data.raw.records import BoxedImage, CaptionedImage, LabelledBox
from vlp.data.raw.source import Source, require_file

COCO_INSTANCES = ("annotations/instances_train2014.json", "annotations/instances_val2014.json")
OBJECTS365 = "zhiyuan_objv2_train.json"
_LISTS = ("images", "annotations", "categories")


@dataclass
class Instances:
    """Content of a file in COCO's format: names, sizes and objects of images, by image id; names of classes by id."""

    names: dict[int, str]
    sizes: dict[int, tuple[int, int]]
    classes: dict[int, str]
    boxes: BoxTable

    def elements(self, image: int) -> tuple[LabelledBox, ...]:
        """Return the objects of an image."""
        return tuple(LabelledBox((self.classes[label],), box) for _, label, box in self.boxes.of(image))


def read_coco_objects(source: Source) -> LazyRecords[BoxedImage]:
    """Read the objects of the images that Karpathy's splits train on (train, restval), with their captions.

    The official instances cover the images of val and test as well: those are not read.
    """
    splits = read_coco(source)
    captioned = [record for split in ("train", "restval") for record in splits[split].read(source.skips)]
    files = [read_instances(source, source.root / name) for name in COCO_INSTANCES]
    places = {name: (file, image) for file in files for image, name in file.names.items()}
    boxed: list[CaptionedImage] = []
    for record in captioned:
        if record.path.name in places:
            boxed.append(record)
        else:
            source.skips.add("image without annotation", str(record.path))

    def build(number: int, skips: Skips) -> BoxedImage | None:
        record = boxed[number]
        file, image = places[record.path.name]
        elements = file.elements(image)
        if not elements:
            skips.add("image without objects", record.path.name)
            return None
        return BoxedImage(record.path, elements, file.sizes[image], record.captions)

    return LazyRecords(range(len(boxed)), build)


def read_objects365(source: Source) -> LazyRecords[BoxedImage]:
    """Read ``zhiyuan_objv2_train.json``; an image lies in ``train``, under the last two parts of its ``file_name``."""
    file = read_instances(source, source.root / OBJECTS365)
    images = source.shuffled(sorted(set(file.names) & set(file.boxes.images())))
    if without := len(file.names) - len(images):
        source.skips.add("image without objects", "", without)

    def build(number: int, _: Skips) -> BoxedImage:
        image = images[number]
        path = source.path("train", *PurePosixPath(file.names[image]).parts[-2:])
        return BoxedImage(path, file.elements(image), file.sizes[image])

    return LazyRecords(range(len(images)), build)


def read_instances(source: Source, path: Path) -> Instances:
    """Read a file in COCO's format; objects marked as a crowd are left out, for their box is that of many.

    Raises:
        DataError: the file is missing or of another format; with the place.
    """
    require_file(path)
    found, place, number = Instances({}, {}, {}, BoxTable()), "images", 0
    try:
        for place, entry in iter_json_members(path, _LISTS):
            number += 1
            _add(source, path, found, place, entry)
    except (KeyError, TypeError, AttributeError, ValueError, OverflowError) as error:
        raise DataError(
            f"{path}, {place} (element {number} of all) is not in COCO's format (images[]: id, file_name, width, "
            f"height; annotations[]: image_id, category_id, bbox; categories[]: id, name): {error!r}"
        ) from error
    found.boxes.group()
    _require_known(path, found)
    source.found[f"objects in {path.name}"] = len(found.boxes)
    return found


def _add(source: Source, path: Path, found: Instances, place: str, entry: dict[str, Any]) -> None:
    if place == "images":
        image = int(entry["id"])
        found.names[image] = source.text(entry["file_name"], f"{path.name}, image {image}")
        found.sizes[image] = int(entry["width"]), int(entry["height"])
    elif place == "categories":
        found.classes[int(entry["id"])] = source.text(entry["name"], f"{path.name}, categories")
    elif entry.get("iscrowd"):
        source.skips.add("object marked as a crowd", f"{path.name}, image {entry['image_id']}")
    else:
        found.boxes.add(int(entry["image_id"]), int(entry["category_id"]), [float(side) for side in entry["bbox"]])


def _require_known(path: Path, found: Instances) -> None:
    """Raise a DataError if an object is of an image or a class that the file does not have."""
    for image in found.boxes.images():
        if image not in found.names:
            raise DataError(f"{path}: annotations name image {image}, which is not among images; download it again")
    for label in found.boxes.labels():
        if label not in found.classes:
            raise DataError(f"{path}: annotations name category {label}, which is not among categories")
