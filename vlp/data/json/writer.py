"""Write one list: an item a line, streamed, without the items whose image cannot be used."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from vlp.data.conversion.image_files import Problem, image_problem, looked_at, name_below
from vlp.data.conversion.skips import Skips
from vlp.data.json.items import Item
from vlp.data.json.plans import JsonList, image_paths
from vlp.files import atomic_open


@dataclass
class ListRecord:
    """What a list holds: ``rows`` (items), ``captions`` (texts in all items), ``images``, ``bytes``, its SHA-256."""

    rows: int = 0
    captions: int = 0
    images: int = 0
    bytes: int = 0
    sha256: str = ""
    skipped: dict[str, Any] = field(default_factory=dict)


def write_list(
    made: JsonList, folder: Path, image_root: Path, verify_images: bool, advance: Callable[[int], None]
) -> ListRecord:
    """Write ``made`` into ``folder``; images are named by their path below ``image_root``.

    Items of an image that is missing, empty, no regular file, or (with ``verify_images``) does not decode are left
    out and counted.

    Raises:
        DataError: an image lies outside ``image_root``.
        OSError: the disk is full.
    """
    skips, record, digest = Skips(), ListRecord(), hashlib.sha256()
    path = folder / made.name
    with atomic_open(path) as handle:

        def put(text: str) -> None:
            content = text.encode()
            digest.update(content)
            handle.write(content)

        for item in _items(made, image_root, verify_images, skips, record, advance):
            put(f"{',' if record.rows else '['}\n{json.dumps(item, ensure_ascii=False)}")
            record.rows += 1
            record.captions += _texts(item)
        put("\n]\n" if record.rows else "[]\n")
    record.bytes, record.sha256, record.skipped = path.stat().st_size, digest.hexdigest(), dict(skips)
    return record


def _items(
    made: JsonList,
    image_root: Path,
    verify: bool,
    skips: Skips,
    record: ListRecord,
    advance: Callable[[int], None],
) -> Iterator[Item]:
    records = (entry for part in made.parts for entry in part.read(skips))

    def look(entry: Any) -> Problem | None:
        return next(filter(None, (image_problem(path, verify) for path in image_paths(entry))), None)

    for entry, problem in looked_at(records, look):
        advance(1)
        if problem is not None:
            skips.add(*problem)
            continue
        paths = image_paths(entry)
        record.images += len(paths)
        yield from made.items(entry, [name_below(path, image_root) for path in paths])


def _texts(item: Item) -> int:
    captions = item.get("caption")
    return len(captions) if isinstance(captions, list) else 1
