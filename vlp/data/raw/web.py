"""Web collections: CC3M, SBU and CC12M, which has the layout of CC3M.

Two raw layouts are read: the official one, a list of [path, caption] beside ``images_{split}/*/*``, and the folders
that img2dataset writes with ``output_format="files"``. Ten million paths and captions are held as Arrow strings and
numbers, never as Python objects.

Source: docs/official/meter.md §3.9.
"""

from __future__ import annotations

import json
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
from vlp.data.raw.lazy import LazyRecords
from vlp.data.raw.records import CaptionedImage
from vlp.data.raw.source import Source, listing, require_file, storable

_BATCH = 100_000
_IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".webp")


def read_gcc(source: Source) -> dict[str, LazyRecords[CaptionedImage]]:
    """Read CC3M from ``{split}_annot.json`` or img2dataset's folders: train, val -> images in shuffled order."""
    return _read(source, {split: f"{split}_annot.json" for split in ("train", "val")})


def read_sbu(source: Source) -> dict[str, LazyRecords[CaptionedImage]]:
    """Read SBU from ``annot.json`` or img2dataset's folders; all of it is train."""
    return _read(source, {"train": "annot.json"})


def read_cc12m(source: Source) -> dict[str, LazyRecords[CaptionedImage]]:
    """Read CC12M from ``train_annot.json`` or img2dataset's folders; all of it is train."""
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

    def caption(self, image: int) -> str | None:
        if self.captions is not None:
            return self.captions[int(self.caption_of[image])].as_py()
        return _caption_beside(self.path(image))


def _read(source: Source, annotations: dict[str, str]) -> dict[str, LazyRecords[CaptionedImage]]:
    """Read every split that is there; ``annotations`` names the file of each in the official layout."""
    result = {}
    for split, annotation in annotations.items():
        downloaded = _img2dataset_folder(source.root, split)
        if (source.root / annotation).is_file():
            pairs = _official(source, source.root / annotation, source.root / f"images_{split}")
        elif downloaded is not None:
            source.layout = "img2dataset"
            pairs = _img2dataset(source, downloaded)
        else:
            source.not_written[split] = f"neither {annotation} nor img2dataset folders such as 00000/ in {source.root}"
            continue
        result[split] = _records(pairs, split, source.seed)
    return result


def _records(pairs: _Pairs, split: str, seed: int) -> LazyRecords[CaptionedImage]:
    order = array("q", np.flatnonzero(pairs.caption_of >= 0).tolist())
    random.Random(seed).shuffle(order)

    def build(number: int, skips: Skips) -> CaptionedImage | None:
        path, caption = pairs.path(order[number]), pairs.caption(order[number])
        if caption is None or not caption.strip():
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


def _img2dataset(source: Source, folder: Path) -> _Pairs:
    """List the images of an img2dataset download; captions are read from .json or .txt when a record is built."""
    with_caption: list[str] = []
    chunks: list[pa.Array] = []
    for sub in sorted(source.names(folder)):
        names = _names(source, folder / sub)
        texts = {name.rpartition(".")[0] for name in names if name.endswith((".json", ".txt"))}
        for name in names:
            stem, _, _ = name.rpartition(".")
            if name.endswith(_IMAGE_SUFFIXES):
                if stem in texts:
                    with_caption.append(f"{sub}/{name}")
                else:
                    source.skips.add("image without annotation", f"{sub}/{name}")
        chunks.append(pa.array(with_caption, pa.large_string()))
        with_caption = []
    paths = pa.chunked_array(chunks)
    source.found["images"] = source.found.get("images", 0) + len(paths)
    return _Pairs(folder, paths, None, np.arange(len(paths)))


def _img2dataset_folder(root: Path, split: str) -> Path | None:
    """Return ``root/{split}``, or for training ``root`` itself, if it holds img2dataset's numbered folders."""
    for folder in (root / split, root) if split == "train" else (root / split,):
        if any(name.isdecimal() and (folder / name).is_dir() for name in listing(folder)):
            return folder
    return None


def _caption_beside(image: Path) -> str | None:
    """Read the caption of an img2dataset image: "caption" of the .json file, else the .txt file."""
    metadata = image.with_suffix(".json")
    try:
        if metadata.is_file():
            caption = json.loads(metadata.read_bytes()).get("caption")
            return caption if isinstance(caption, str) else None
        text = image.with_suffix(".txt")
        require_file(text)
        return text.read_text(encoding="utf-8")
    except (ValueError, AttributeError, RecursionError) as error:
        raise DataError(f"the caption beside {image} cannot be read: {error}") from error


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
