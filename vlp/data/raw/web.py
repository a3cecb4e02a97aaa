"""Web collections: CC3M, SBU and CC12M, which has the layout of CC3M.

Two raw layouts are read: the official one, a list of [path, caption] beside ``images_{split}/*/*``, and what
img2dataset writes (:mod:`vlp.data.raw.img2dataset`). Ten million paths and captions are held as Arrow strings and
numbers, never as Python objects.

Source: docs/official/meter.md §3.9.
"""

from __future__ import annotations

import random
from array import array
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from vlp.data.conversion.skips import Skips
from vlp.data.errors import DataError
from vlp.data.json_stream import iter_json_list
from vlp.data.raw.img2dataset.download import FILES, Download, count_failed, find_download, read_records
from vlp.data.raw.img2dataset.files import annotation_beside, image_names
from vlp.data.raw.img2dataset.samples import SUCCESS, Annotation, failed
from vlp.data.raw.lazy import LazyRecords, Records
from vlp.data.raw.records import CaptionedImage
from vlp.data.raw.source import Source, storable

_BATCH = 100_000


def read_gcc(source: Source) -> dict[str, Records[CaptionedImage]]:
    """Read CC3M from ``{split}_annot.json`` or img2dataset's output: train, val -> images in shuffled order."""
    return _read(source, {split: f"{split}_annot.json" for split in ("train", "val")})


def read_sbu(source: Source) -> dict[str, Records[CaptionedImage]]:
    """Read SBU from ``annot.json`` or img2dataset's output; all of it is train."""
    return _read(source, {"train": "annot.json"})


def read_cc12m(source: Source) -> dict[str, Records[CaptionedImage]]:
    """Read CC12M from ``train_annot.json`` or img2dataset's output; all of it is train."""
    return _read(source, {"train": "train_annot.json"})


@dataclass(frozen=True)
class _Pairs:
    """Images under ``folder``, and the caption of each; without ``captions`` it lies in a file beside the image.

    ``caption_of[i]`` is the place in ``captions`` of image i's caption, -1 if it has none.
    """

    folder: Path
    paths: pa.ChunkedArray
    captions: pa.ChunkedArray | None
    caption_of: np.ndarray

    def path(self, image: int) -> Path:
        return self.folder / self.paths[image].as_py()

    def annotation(self, image: int) -> Annotation:
        if self.captions is not None:
            return Annotation(self.captions[int(self.caption_of[image])].as_py())
        return annotation_beside(self.path(image))


def _read(source: Source, annotations: dict[str, str]) -> dict[str, Records[CaptionedImage]]:
    """Read every split that is there; ``annotations`` names the file of each in the official layout."""
    result: dict[str, Records[CaptionedImage]] = {}
    for split, annotation in annotations.items():
        if (source.root / annotation).is_file():
            pairs = _official(source, source.root / annotation, source.root / f"images_{split}")
            result[split] = _records(pairs, split, source.seed)
        elif (download := find_download(source.root, split)) is not None:
            source.layout = download.format
            result[split] = _downloaded(source, download, split)
        else:
            source.not_written[split] = (
                f"neither {annotation} nor img2dataset output such as 00000/ or 00000.tar in {source.root}"
            )
    return result


def _downloaded(source: Source, download: Download, split: str) -> Records[CaptionedImage]:
    if download.format != FILES:
        return read_records(source, download, split)
    paths = image_names(source, download.folder)
    count_failed(source, download.folder, [path.name for path in download.shards])
    source.found["images"] = source.found.get("images", 0) + len(paths)
    return _records(_Pairs(download.folder, paths, None, np.arange(len(paths))), split, source.seed)


def _records(pairs: _Pairs, split: str, seed: int) -> LazyRecords[CaptionedImage]:
    order = array("q", np.flatnonzero(pairs.caption_of >= 0).tolist())
    random.Random(seed).shuffle(order)

    def build(number: int, skips: Skips) -> CaptionedImage | None:
        path, (caption, status) = pairs.path(order[number]), pairs.annotation(order[number])
        if status != SUCCESS:
            skips.add(failed(status), str(path))
            return None
        if not caption.strip():
            skips.add("empty caption", str(path))
            return None
        return CaptionedImage(path, [storable(caption, str(path), skips)], path.name, split)

    return LazyRecords(range(len(order)), build)


def _official(source: Source, annotation: Path, folder: Path) -> _Pairs:
    """Join ``folder/*/*`` with the annotation on the base name of the path."""
    subs = sorted(source.names(folder))
    paths = _strings(f"{sub}/{name}" for sub in subs for name in _names(source, folder / sub))
    if not len(paths):
        raise DataError(f"no images found: expected {folder}/*/*; see docs/data.md for the raw layout")
    names, captions = _read_captions(source, annotation)
    order = pc.index_in(_base_names(paths), value_set=names)
    found = pc.is_in(names, value_set=_base_names(paths))
    caption_of = order.fill_null(-1).to_numpy().astype(np.int64)
    _count(source, "image without annotation", paths, caption_of < 0)
    _count(source, "annotation without image", names, ~found.to_numpy())
    repeated = np.ones(len(names), bool)
    repeated[np.unique(pc.index_in(names, value_set=names).to_numpy())] = False
    _count(source, "second annotation of the same image", names, repeated)
    source.found["images"] = source.found.get("images", 0) + len(paths)
    source.found["annotations"] = source.found.get("annotations", 0) + len(names)
    return _Pairs(folder, paths, captions, caption_of)


def _read_captions(source: Source, annotation: Path) -> tuple[pa.ChunkedArray, pa.ChunkedArray]:
    """Read a list of [path, caption]: base names and captions."""
    names: list[pa.Array] = []
    captions: list[pa.Array] = []
    batch: list[tuple[str, str]] = []

    def flush() -> None:
        names.append(pa.array([name for name, _ in batch], pa.large_string()))
        captions.append(pa.array([caption for _, caption in batch], pa.large_string()))
        batch.clear()

    for number, entry in enumerate(iter_json_list(annotation)):
        if not (isinstance(entry, list) and len(entry) == 2 and all(isinstance(part, str) for part in entry)):
            raise DataError(f"{annotation}, element {number}: expected [path, caption], got {str(entry)[:100]}")
        name, caption = (source.text(part, f"{annotation.name}, element {number}") for part in entry)
        batch.append((name.rpartition("/")[2], caption))
        if len(batch) == _BATCH:
            flush()
    flush()
    return pa.chunked_array(names), pa.chunked_array(captions)


def _names(source: Source, folder: Path) -> list[str]:
    return sorted(source.names(folder)) if folder.is_dir() else []


def _strings(values: Iterator[str]) -> pa.ChunkedArray:
    chunks, batch = [], []
    for value in values:
        batch.append(value)
        if len(batch) == _BATCH:
            chunks.append(pa.array(batch, pa.large_string()))
            batch = []
    return pa.chunked_array([*chunks, pa.array(batch, pa.large_string())])


def _base_names(paths: pa.ChunkedArray) -> pa.ChunkedArray:
    return pc.replace_substring_regex(paths, "^.*/", "")


def _count(source: Source, reason: str, names: pa.ChunkedArray, which: np.ndarray) -> None:
    """Note ``reason`` for the names where ``which`` is true."""
    places = np.flatnonzero(which)
    for place in places[:5]:
        source.skips.add(reason, names[int(place)].as_py())
    if len(places) > 5:
        source.skips.add(reason, "", len(places) - 5)
