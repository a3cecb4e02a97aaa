"""Web collections -> shards of 100 000 images: CC3M, SBU and CC12M, which has the layout of CC3M.

Two raw layouts are read: the official one, a list of [path, caption] beside ``images_{split}/*/*``, and the folders
that img2dataset writes with ``output_format="files"``. Ten million paths and captions are held as Arrow strings and
numbers, never as Python objects, and images are read one by one when they are written.

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

from vlp.data.arrow.registry import SHARD
from vlp.data.arrow.writer import CAPTION, Row, Skips, Table
from vlp.data.errors import DataError
from vlp.data.raw.source import Source, iter_json_list, listing

SHARD_IMAGES = 100_000
_BATCH = 100_000
_IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".webp")


def plan_gcc(source: Source) -> list[Table]:
    """Plan conceptual_caption_{train,val}_{i}."""
    tables = []
    for split in ("train", "val"):
        tables += _plan(source, split, f"{split}_annot.json", f"conceptual_caption_{split}_{SHARD}")
    return tables


def plan_sbu(source: Source) -> list[Table]:
    """Plan sbu_{i}."""
    return _plan(source, "train", "annot.json", f"sbu_{SHARD}")


def plan_cc12m(source: Source) -> list[Table]:
    """Plan cc12m_{i}."""
    return _plan(source, "train", "train_annot.json", f"cc12m_{SHARD}")


@dataclass(frozen=True)
class _Pairs:
    """Images under ``folder``, and the caption of each; without ``captions`` it lies in a file beside the image."""

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


def _plan(source: Source, split: str, annotation: str, pattern: str) -> list[Table]:
    downloaded = _img2dataset_folder(source.root, split)
    if (source.root / annotation).is_file():
        pairs = _official(source, source.root / annotation, source.root / f"images_{split}")
    elif downloaded is not None:
        source.layout = "img2dataset"
        pairs = _img2dataset(source, downloaded)
    else:
        source.not_written[split] = f"neither {annotation} nor img2dataset folders such as 00000/ in {source.root}"
        return []
    usable = np.flatnonzero(pairs.caption_of >= 0)
    order = array("q", usable.tolist())
    random.Random(source.seed).shuffle(order)
    shards = len(order) // SHARD_IMAGES + 1  # as upstream: an exact multiple has an empty last shard
    return [_shard(pairs, order, split, pattern, i) for i in range(shards)]


def _shard(pairs: _Pairs, order: array[int], split: str, pattern: str, number: int) -> Table:
    images = order[number * SHARD_IMAGES : (number + 1) * SHARD_IMAGES]

    def rows(skips: Skips) -> Iterator[Row]:
        for image in images:
            path, caption = pairs.path(image), pairs.caption(image)
            if caption is None or not caption.strip():
                skips.add("empty caption", str(path))
                continue
            yield {"image": path, "caption": [caption], "image_id": path.name, "split": split}

    return Table(pattern.replace(SHARD, str(number)), CAPTION, rows, len(images), shard_of=pattern)


def _official(source: Source, annotation: Path, folder: Path) -> _Pairs:
    """Join ``folder/*/*`` with the annotation on the base name of the path."""
    paths = _strings(f"{sub}/{name}" for sub in sorted(listing(folder)) for name in _listing(folder / sub))
    if not len(paths):
        raise DataError(f"no images found: expected {folder}/*/*; see docs/data.md for the raw layout")
    names, captions = _read(annotation)
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


def _read(annotation: Path) -> tuple[pa.ChunkedArray, pa.ChunkedArray]:
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
        batch.append((entry[0].rpartition("/")[2], entry[1]))
        if len(batch) == _BATCH:
            flush()
    flush()
    return pa.chunked_array(names), pa.chunked_array(captions)


def _img2dataset(source: Source, folder: Path) -> _Pairs:
    """List the images of an img2dataset download; captions are read from .json or .txt when a row is written."""
    with_caption: list[str] = []
    chunks: list[pa.Array] = []
    for sub in sorted(listing(folder)):
        names = _listing(folder / sub)
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
        return image.with_suffix(".txt").read_text(encoding="utf-8")
    except (ValueError, AttributeError) as error:
        raise DataError(f"the caption beside {image} cannot be read: {error}") from error


def _listing(folder: Path) -> list[str]:
    return sorted(listing(folder)) if folder.is_dir() else []


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
