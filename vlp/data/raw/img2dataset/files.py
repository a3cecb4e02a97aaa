"""img2dataset's ``--output_format files``: numbered folders of images, each with its .json or .txt beside it."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa

from vlp.data.errors import DataError
from vlp.data.raw.img2dataset.samples import IMAGE_SUFFIXES, NO_CAPTION, REPEATED, Annotation, annotation_of
from vlp.data.raw.source import Source, require_file

_SUFFIXES = tuple(f".{suffix}" for suffix in IMAGE_SUFFIXES)


def image_names(source: Source, folder: Path) -> pa.ChunkedArray:
    """List ``{shard}/{image}`` of the images that have a caption beside them, sorted; the others are counted."""
    chunks: list[pa.Array] = []
    for sub in sorted(source.names(folder)):
        names = sorted(source.names(folder / sub)) if (folder / sub).is_dir() else []
        texts = {name.rpartition(".")[0] for name in names if name.endswith((".json", ".txt"))}
        chosen: list[str] = []
        last = ""
        for name in names:
            stem, _, _ = name.rpartition(".")
            if not name.endswith(_SUFFIXES):
                continue
            if stem not in texts:
                source.skips.add(NO_CAPTION, f"{sub}/{name}")
            elif stem == last:
                source.skips.add(REPEATED, f"{sub}/{name}")
            else:
                chosen.append(f"{sub}/{name}")
                last = stem
        chunks.append(pa.array(chosen, pa.large_string()))
    return pa.chunked_array(chunks)


def annotation_beside(image: Path) -> Annotation:
    """Read the caption of an image: "caption" of the .json file, else the .txt file.

    Raises:
        DataError: neither can be read.
    """
    record, text = image.with_suffix(".json"), image.with_suffix(".txt")
    try:
        if not record.is_file():
            require_file(text)
        return annotation_of(_content(record), _content(text))
    except ValueError as error:
        raise DataError(f"the caption beside {image} cannot be read: {error}") from error


def _content(path: Path) -> bytes | None:
    return path.read_bytes() if path.is_file() else None
