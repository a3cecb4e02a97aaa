"""COCO and Flickr30k with Karpathy's splits: one JSON file for all splits beside the image folders.

Source: docs/official/meter.md §3.9.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vlp.data.conversion.skips import Skips
from vlp.data.errors import DataError
from vlp.data.raw.lazy import LazyRecords
from vlp.data.raw.records import CaptionedImage
from vlp.data.raw.source import Source, read_json

_JOINED = "annotations joined with an earlier one of the same image"


@dataclass(eq=False)
class _Annotation:
    number: int  # its place in images[]
    split: str
    captions: list[str]
    has_image: bool = False


_Annotations = Mapping[str, Mapping[str, _Annotation]]  # file name -> folder ("" where the file names none)


def image_number(path: str | Path) -> int | None:
    """The number behind the last ``_`` of the name of a COCO image, its id there; None if there is none.

    Source: docs/official/xvlm.md §7.5.
    """
    number = Path(path).stem.rsplit("_", 1)[-1]
    return int(number) if number.isascii() and number.isdigit() else None


def read_coco(source: Source) -> dict[str, LazyRecords[CaptionedImage]]:
    """Read ``karpathy/dataset_coco.json``: train, val, restval, test -> images in shuffled order."""
    return _read(source, "karpathy/dataset_coco.json", ("train2014", "val2014"), "train val restval test")


def read_f30k(source: Source) -> dict[str, LazyRecords[CaptionedImage]]:
    """Read ``karpathy/dataset_flickr30k.json``: train, val, test -> images in shuffled order."""
    return _read(source, "karpathy/dataset_flickr30k.json", ("flickr30k-images",), "train val test")


def _read(
    source: Source, annotation: str, folders: tuple[str, ...], splits: str
) -> dict[str, LazyRecords[CaptionedImage]]:
    annotations = _read_annotations(source, source.root / annotation)
    by_split: dict[str, list[tuple[Path, _Annotation]]] = {split: [] for split in splits.split()}
    paths = source.images(*folders)
    present = {(path.parent.name, path.name) for path in paths}
    for path in paths:
        entry = _annotation_of(path, annotations.get(path.name, {}), present)
        if entry is None:
            source.skips.add("image without annotation", str(path))
        elif entry.has_image:
            source.skips.add("second image of the same name", str(path))
        elif entry.split not in by_split:
            source.skips.add(f"split {entry.split!r} is not one of {splits}", path.name)
        elif not entry.captions:
            source.skips.add("image with empty captions only", path.name)
        else:
            by_split[entry.split].append((path, entry))
        if entry is not None:
            entry.has_image = True
    for name, entries in annotations.items():
        for entry in entries.values():
            if not entry.has_image:
                source.skips.add("annotation without image", name)
    return {split: _records(images, annotations) for split, images in by_split.items()}


def _annotation_of(path: Path, entries: Mapping[str, _Annotation], present: set[tuple[str, str]]) -> _Annotation | None:
    """Return the entry of an image's folder, else the only one whose own folder does not hold the image.

    The official code looks at the file's name alone, wherever it lies.
    """
    if path.parent.name in entries:
        return entries[path.parent.name]
    others = [entry for folder, entry in entries.items() if (folder, path.name) not in present]
    return others[0] if len(others) == 1 else None


def _records(images: list[tuple[Path, _Annotation]], annotations: _Annotations) -> LazyRecords[CaptionedImage]:
    def build(number: int, _: Skips) -> CaptionedImage:
        path, annotation = images[number]
        unique = len(annotations[path.name]) == 1
        image_id = path.name if unique else f"{path.parent.name}/{path.name}"
        return CaptionedImage(path, annotation.captions, image_id, annotation.split)

    return LazyRecords(range(len(images)), build)


def _read_annotations(source: Source, path: Path) -> _Annotations:
    """Read Karpathy's JSON: split and raw captions of each image in order, empty ones left out.

    A file name is unique within its folder (``filepath``). Several entries of one image are one image with all their
    captions.

    Raises:
        DataError: not Karpathy's format, or an image in two splits: it would be trained on and evaluated.
    """
    content = read_json(path)
    result: dict[str, dict[str, _Annotation]] = {}
    number = 0
    try:
        for number, image in enumerate(content["images"]):
            name, folder, split, captions = _entry(source, image)
            entry = result.setdefault(name, {}).setdefault(folder, _Annotation(number, split, []))
            if entry.split != split:
                raise DataError(
                    f"{path}: {name} is in split {entry.split} (images[{entry.number}]) and in split {split} "
                    f"(images[{number}]); delete one of the two entries"
                )
            entry.captions += captions
            if entry.number != number:
                source.found[_JOINED] = source.found.get(_JOINED, 0) + 1
    except (KeyError, TypeError, AttributeError) as error:
        raise DataError(
            f"{path} is not Karpathy's format (images[]: filename, split, sentences[].raw): {error!r} at image {number}"
        ) from error
    source.found["annotations"] = sum(map(len, result.values()))
    return result


def _entry(source: Source, image: Mapping[str, Any]) -> tuple[str, str, str, list[str]]:
    """Return file name, last part of the folder ("" if none is given), split and captions of an entry of ``images``."""
    name = source.text(image["filename"], "filename")
    raw = [source.text(sentence["raw"], name) for sentence in image["sentences"]]
    captions = [text for text in raw if text.strip()]
    if len(captions) < len(raw):
        source.skips.add("empty caption", name, len(raw) - len(captions))
    return name, Path(image.get("filepath") or "").name, source.text(image["split"], name), captions
