"""COCO and Flickr30k with Karpathy's splits -> ``{prefix}_caption_karpathy_{split}`` (docs/official/meter.md §3.9)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from vlp.data.arrow.writer import CAPTION, Row, Skips, Table
from vlp.data.errors import DataError
from vlp.data.raw.source import Source, read_json


@dataclass(frozen=True)
class _Annotation:
    split: str
    captions: list[str]


def plan_coco(source: Source) -> list[Table]:
    """Plan coco_caption_karpathy_{train,val,restval,test} from ``karpathy/dataset_coco.json``."""
    return _plan(source, "coco", "karpathy/dataset_coco.json", ("train2014", "val2014"), "train val restval test")


def plan_f30k(source: Source) -> list[Table]:
    """Plan f30k_caption_karpathy_{train,val,test} from ``karpathy/dataset_flickr30k.json``."""
    return _plan(source, "f30k", "karpathy/dataset_flickr30k.json", ("flickr30k-images",), "train val test")


def _plan(source: Source, prefix: str, annotation: str, folders: tuple[str, ...], splits: str) -> list[Table]:
    annotations = _read(source, annotation)
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

    def table(split: str, paths: list[Path]) -> Table:
        def rows(_: Skips) -> Iterator[Row]:
            for path in paths:
                yield {
                    "image": path,
                    "caption": annotations[path.name].captions,
                    "image_id": path.name,
                    "split": split,
                }

        return Table(f"{prefix}_caption_karpathy_{split}", CAPTION, rows, len(paths))

    return [table(split, paths) for split, paths in by_split.items()]


def _read(source: Source, annotation: str) -> dict[str, _Annotation]:
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
