"""Captions with foils: from the truth of scenes, or from files in the form of SugarCrepe's."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from reproduce.figures.given_pairs import read_json
from scenes.coco_layout import TRUTH_FILE
from scenes.layout_files import image_file
from scenes.readings import read_truth
from vlp.data.errors import DataError


@dataclass(frozen=True)
class Foil:
    """A true caption of an image and a false one.

    Attributes:
        where: file and entry, for messages.
        field: what the false word is about, such as "colour"; of files without fields the file's name.
    """

    where: str
    image: Path
    caption: str
    foil: str
    field: str


def of_scenes(folder: Path, split: str) -> list[Foil]:
    """The foils of every caption of a split of scenes.

    Raises:
        FileNotFoundError, ValueError: there is no truth of scenes, or none that can be read; or no image of the split.
    """
    found = list[Foil]()
    for number, record in enumerate(read_truth(folder / TRUTH_FILE), start=1):
        if record["split"] != split:
            continue
        image = image_file(folder, record)
        for caption in record["captions"]:
            fields = (span["field"] for span in caption["spans"] if span["salient"])
            for foil, field in zip(caption["foils"], fields, strict=True):
                found.append(Foil(f"{TRUTH_FILE}, line {number}", image, caption["raw"], foil["text"], field))
    if not found:
        raise ValueError(f"{folder / TRUTH_FILE}: no foil of the split {split!r}: choose another --split")
    return found


def of_files(paths: Iterable[Path], images: Path | None) -> list[Foil]:
    """The entries of JSON files: lists, or objects whose values are entries.

    An entry has ``image`` or ``filename``, ``caption``, ``negative_caption``, and if it likes a ``field``.

    Args:
        images: where the names of images start; None = the folder of their file.

    Raises:
        DataError: a file or an entry does not serve; names both.
    """
    found = list[Foil]()
    for path in paths:
        entries = list(_entries(path))
        if not entries:
            raise DataError(f"--pairs {path}: holds no entry")
        found += [_foil(where, entry, images or path.parent, path.stem) for where, entry in entries]
    return found


def _entries(path: Path) -> Iterator[tuple[str, Any]]:
    content = read_json(path)
    if isinstance(content, Mapping):
        yield from ((f"--pairs {path}, entry {name!r}", entry) for name, entry in content.items())
    elif isinstance(content, list):
        yield from ((f"--pairs {path}, row {number}", entry) for number, entry in enumerate(content))
    else:
        raise DataError(f"--pairs {path}: expected a list or an object of entries")


def _foil(where: str, entry: Any, images: Path, file: str) -> Foil:
    if not isinstance(entry, Mapping) or not {"caption", "negative_caption"} <= entry.keys():
        raise DataError(f"{where}: expected an object with image, caption and negative_caption")
    names = [key for key in ("image", "filename") if key in entry]
    if not names:
        raise DataError(f"{where}: names no image, neither as 'image' nor as 'filename'")
    for key in (names[0], "caption", "negative_caption", *(["field"] if "field" in entry else [])):
        if not isinstance(entry[key], str) or not entry[key].strip():
            raise DataError(f"{where}: {key} is {entry[key]!r}, expected text")
    image = images / entry[names[0]]
    if not image.is_file():
        raise DataError(f"{where}: the image {image} is not there: give the folder of images as --images")
    if entry["caption"] == entry["negative_caption"]:
        raise DataError(f"{where}: caption and negative_caption are the same")
    return Foil(where, image, entry["caption"], entry["negative_caption"], entry.get("field", file))
