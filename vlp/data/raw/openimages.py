"""OpenImages: boxes with class names, as shares of the image, in one long CSV file.

Source: docs/official/xvlm.md §3.2.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
from pyarrow import csv

from vlp.data.conversion.skips import Skips
from vlp.data.errors import DataError
from vlp.data.raw.boxes import BoxTable
from vlp.data.raw.lazy import LazyRecords
from vlp.data.raw.records import BoxedImage, LabelledBox
from vlp.data.raw.source import Source, require_file

BOXES, CLASSES = "oidv6-train-annotations-bbox.csv", "class-descriptions-boxable.csv"
_TEXTS, _SIDES, _GROUP = ("ImageID", "LabelName"), ("XMin", "XMax", "YMin", "YMax"), "IsGroupOf"
_TYPES = {
    **dict.fromkeys(_TEXTS, pa.string()),
    **dict.fromkeys(_SIDES, pa.float32()),
    _GROUP: pa.int8(),
}
_CHARACTERS = frozenset("0123456789abcdefABCDEF")


def read_openimages(source: Source) -> LazyRecords[BoxedImage]:
    """Read the boxes of the training images, in shuffled order; an image is ``train/{id}.jpg``.

    Where there is no folder ``train``, the images lie in ``train_0`` to ``train_f``, by the first character of their
    id, as the archives unpack. Boxes around a group of objects are left out.
    """
    classes = _read_classes(source.root / CLASSES)
    names, labels, boxes = _read_boxes(source, source.root / BOXES, classes)
    order = source.shuffled(boxes.images())
    one_folder = (source.root / "train").is_dir()

    def build(number: int, _: Skips) -> BoxedImage:
        image = order[number]
        name = names[image]
        folder = "train" if one_folder else f"train_{name[0]}"
        found = (LabelledBox((labels[label],), box) for _, label, box in boxes.of(image))
        return BoxedImage(source.path(folder, f"{name}.jpg"), tuple(found), (1, 1))

    return LazyRecords(range(len(order)), build)


def _read_classes(path: Path) -> dict[str, str]:
    """Read ``/m/011k07,Tortoise``: label -> name; with or without a first line of column names."""
    options = csv.ReadOptions(column_names=["LabelName", "DisplayName"])
    columns = csv.ConvertOptions(column_types={"LabelName": pa.string(), "DisplayName": pa.string()})
    rows = [row for batch in _batches(path, columns, options) for row in batch.to_pylist()]
    return {row["LabelName"]: row["DisplayName"] for row in rows if row["LabelName"] != "LabelName"}


def _read_boxes(source: Source, path: Path, classes: dict[str, str]) -> tuple[list[str], list[str], BoxTable]:
    """Return the ids of images, the names of classes, and the boxes, whose numbers are places in these two."""
    images: dict[str, int] = {}
    labels = {label: number for number, label in enumerate(classes)}
    boxes = BoxTable()
    columns = csv.ConvertOptions(column_types=_TYPES, include_columns=list(_TYPES))
    for batch in _batches(path, columns):
        if any(column.null_count for column in batch.columns):
            raise DataError(f"{path}: a row lacks one of {', '.join(_TYPES)}; download it again")
        for name, label, left, right, top, bottom, group in zip(*(c.to_pylist() for c in batch.columns), strict=True):
            if group > 0:
                source.skips.add("box around a group of objects", name)
            elif label not in labels:
                raise DataError(f"{path}: {CLASSES} has no class {label!r} (image {name})")
            elif not name or not _CHARACTERS.issuperset(name):
                raise DataError(f"{path}: {name[:80]!r} is no id of an image")
            else:
                image = images.setdefault(name, len(images))
                boxes.add(image, labels[label], (left, top, right - left, bottom - top))
    boxes.group()
    source.found["boxes"], source.found["annotated images"] = len(boxes), len(images)
    return list(images), list(classes.values()), boxes


def _batches(
    path: Path, columns: csv.ConvertOptions, options: csv.ReadOptions | None = None
) -> Iterator[pa.RecordBatch]:
    """Read a CSV file in batches of about a megabyte."""
    require_file(path)
    try:
        with csv.open_csv(path, read_options=options, convert_options=columns) as reader:
            yield from reader
    except (pa.ArrowInvalid, pa.ArrowKeyError) as error:
        raise DataError(f"{path} is not in OpenImages' format: {str(error)[:200]}; download it again") from error
