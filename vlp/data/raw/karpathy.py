"""COCO and Flickr30k with Karpathy's splits: one JSON file for all splits beside the image folders.

Source: docs/official/meter.md §3.9.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from vlp.data.conversion.skips import Skips
from vlp.data.errors import DataError
from vlp.data.raw.lazy import LazyRecords
from vlp.data.raw.records import CaptionedImage
from vlp.data.raw.source import Source, read_json


@dataclass(frozen=True)
class _Annotation:
    split: str
    captions: list[str]


def read_coco(source: Source) -> dict[str, LazyRecords[CaptionedImage]]:
    """Read ``karpathy/dataset_coco.json``: train, val, restval, test -> images in shuffled order."""
    return _read(source, "karpathy/dataset_coco.json", ("train2014", "val2014"), "train val restval test")


def read_f30k(source: Source) -> dict[str, LazyRecords[CaptionedImage]]:
    """Read ``karpathy/dataset_flickr30k.json``: train, val, test -> images in shuffled order."""
    return _read(source, "karpathy/dataset_flickr30k.json", ("flickr30k-images",), "train val test")


def _read(
    source: Source, annotation: str, folders: tuple[str, ...], splits: str
) -> dict[str, LazyRecords[CaptionedImage]]:
    annotations = _read_annotations(source, annotation)
    by_split: dict[str, list[Path]] = {split: [] for split in splits.split()}
    seen: set[str] = set()
    for path in source.images(*folders):
        entry = annotations.get(path.name)
        if entry is None:
            source.skips.add("image without annotation", str(path))
        elif entry.split not in by_split:
            source.skips.add(f"split {entry.split!r} is not one of {splits}", path.name)
        elif not entry.captions:
            source.skips.add("image with empty captions only", path.name)
        elif path.name in seen:
            source.skips.add("second image of the same name", str(path))
        else:
            by_split[entry.split].append(path)
        seen.add(path.name)
    for name in annotations:
        if name not in seen:
            source.skips.add("annotation without image", name)
    return {split: _records(paths, annotations) for split, paths in by_split.items()}


def _records(paths: list[Path], annotations: dict[str, _Annotation]) -> LazyRecords[CaptionedImage]:
    def build(number: int, _: Skips) -> CaptionedImage:
        path = paths[number]
        annotation = annotations[path.name]
        return CaptionedImage(path, annotation.captions, path.name, annotation.split)

    return LazyRecords(range(len(paths)), build)


def _read_annotations(source: Source, annotation: str) -> dict[str, _Annotation]:
    """Read Karpathy's JSON: file name -> split and the raw captions in order, empty ones left out."""
    path = source.root / annotation
    content = read_json(path)
    result: dict[str, _Annotation] = {}
    try:
        for image in content["images"]:
            raw = [sentence["raw"] for sentence in image["sentences"]]
            captions = [text for text in raw if text.strip()]
            if len(captions) < len(raw):
                source.skips.add("empty caption", image["filename"], len(raw) - len(captions))
            result[image["filename"]] = _Annotation(image["split"], captions)
    except (KeyError, TypeError, AttributeError) as error:
        raise DataError(
            f"{path} is not Karpathy's format (images[]: filename, split, sentences[].raw): {error!r} at image "
            f"{len(result)}"
        ) from error
    source.found["annotations"] = len(result)
    return result
