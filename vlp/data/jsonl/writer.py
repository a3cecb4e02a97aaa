"""Write one file of rows: in a shuffled order, without the images that cannot be used.

Rows of images that lie in archives keep their order there: they are written as they are read, once.
"""

from __future__ import annotations

import base64
import hashlib
import json
import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from vlp.data.conversion.image_files import Problem, content_problem, image_problem, looked_at, name_below
from vlp.data.conversion.skips import Skips
from vlp.data.images import ImageError, image_size
from vlp.data.json.fields import Row
from vlp.data.jsonl.made_rows import Size, region_row
from vlp.data.jsonl.plans import Plan
from vlp.files import atomic_open, regular

_FILES, _ARCHIVED = 256, 8  # records that a thread looks at together; archived ones hold their images


@dataclass(frozen=True)
class RowOptions:
    """How rows are written.

    ``image_root``: the folder that images are named from; None: rows hold the image's bytes. ``image_captions``: rows
    of regions have the captions of the image as well. ``verify_images``: decode every image.
    """

    image_root: Path | None
    image_captions: bool = False
    verify_images: bool = False


@dataclass
class ShardRecord:
    """What a file holds: ``rows``, ``captions`` (texts in all rows), ``boxes``, ``images``, ``bytes``, its SHA-256."""

    rows: int = 0
    captions: int = 0
    boxes: int = 0
    images: int = 0
    bytes: int = 0
    sha256: str = ""
    skipped: dict[str, Any] = field(default_factory=dict)

    def count(self, row: Row) -> None:
        """Add a row."""
        elements = row.get("elems", [])
        self.rows += 1
        self.boxes += len(elements)
        self.captions += sum(_number_of_texts(entry) for entry in (row, *elements))


class _Seen(NamedTuple):
    problem: Problem | None
    size: Size


class _Made(NamedTuple):  # a row as text: a million of them are in memory at once
    text: bytes
    image: Path | bytes  # or its content, where it lies in an archive


def write_shard(
    plan: Plan,
    part: tuple[int, int],
    path: Path,
    options: RowOptions,
    seed: str,
    advance: Callable[[int], None],
) -> ShardRecord:
    """Write the rows of the records [part[0], part[1]) to ``path``, in an order that depends on ``seed`` alone.

    The reader shuffles pieces of a file only, so that the captions of one image must not stand beside each other; an
    image in an archive has one.

    Raises:
        DataError: an image lies outside of the image root.
        OSError: the disk is full.
    """
    skips, record, digest = Skips(), ShardRecord(), hashlib.sha256()
    made = _rows(plan, part, options, skips, record, advance)
    if not plan.archived:
        shuffled = list(made)
        random.Random(seed).shuffle(shuffled)
        made = iter(shuffled)
    with atomic_open(path) as handle:
        for text, image in made:
            content = text if options.image_root is not None else _with_bytes(text, image)
            digest.update(content)
            handle.write(content)
    record.bytes, record.sha256, record.skipped = path.stat().st_size, digest.hexdigest(), dict(skips)
    return record


def _rows(
    plan: Plan,
    part: tuple[int, int],
    options: RowOptions,
    skips: Skips,
    record: ShardRecord,
    advance: Callable[[int], None],
) -> Iterator[_Made]:
    regions = plan.rows is None

    def look(entry: Any) -> _Seen:
        if (data := _archived(plan, entry)) is not None:
            return _Seen(content_problem(entry.path, data, options.verify_images), (0, 0))
        return _look(entry.path, options.verify_images, regions)

    at_once = _ARCHIVED if plan.archived else _FILES
    for entry, (problem, size) in looked_at(plan.read(*part, skips), look, at_once):
        advance(1)
        if problem is not None:
            skips.add(*problem)
            continue
        if plan.rows is None:
            row = region_row(entry, size, options.image_captions, skips)
            rows = [row] if row is not None else []
        else:
            rows = list(plan.rows(entry, skips))
        record.images += bool(rows)
        for row in rows:
            record.count(row)
            named = {} if options.image_root is None else {"image_rpath": name_below(entry.path, options.image_root)}
            data = _archived(plan, entry)
            text = json.dumps({**named, **row}, ensure_ascii=False).encode() + b"\n"
            yield _Made(text, entry.path if data is None else data)


def _archived(plan: Plan, entry: Any) -> bytes | None:
    """The content of a record's image, where it lies in an archive."""
    return entry.data if plan.archived else None


def _look(path: Path, verify: bool, measure: bool) -> _Seen:
    """Find out whether an image can be used and, to ``measure``, its size."""
    if problem := image_problem(path, verify):
        return _Seen(problem, (0, 0))
    try:
        return _Seen(None, image_size(path) if measure else (0, 0))
    except ImageError as error:
        return _Seen(("image does not decode", f"{path}: {error}"), (0, 0))


def _with_bytes(text: bytes, image: Path | bytes) -> bytes:
    """Put the image's bytes before the other fields of a row."""
    content = image if isinstance(image, bytes) else regular(image).read_bytes()
    return b'{"binary": "' + base64.b64encode(content) + b'", ' + text[1:]


def _number_of_texts(entry: Row) -> int:
    texts = entry.get("caption", [])
    return len(texts) if isinstance(texts, list) else 1
