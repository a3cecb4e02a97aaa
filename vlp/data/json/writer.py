"""Write one list: an item a line, streamed, without the items whose image cannot be used."""

from __future__ import annotations

import hashlib
import json
import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

from vlp.data.conversion.image_files import file_problem
from vlp.data.conversion.skips import Skips
from vlp.data.errors import DataError
from vlp.data.images import ImageError, check_image
from vlp.data.json.items import Item
from vlp.data.json.plans import JsonList, image_paths
from vlp.files import atomic_open

_THREADS, _BATCH = 8, 256
_Problem = tuple[str, str]  # reason, example


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
    for entry, problem in _looked_at(records, verify):
        advance(1)
        if problem is not None:
            skips.add(*problem)
            continue
        paths = image_paths(entry)
        record.images += len(paths)
        yield from made.items(entry, [_name(path, image_root) for path in paths])


def _looked_at(records: Iterator[Any], verify: bool) -> Iterator[tuple[Any, _Problem | None]]:
    """Look at the image files of coming records in threads (a network disk answers slowly), in order."""

    def look(batch: list[Any]) -> list[tuple[Any, _Problem | None]]:
        return [(record, _problem(image_paths(record), verify)) for record in batch]

    with ThreadPoolExecutor(_THREADS) as pool:
        pending: deque[Future[list[tuple[Any, _Problem | None]]]] = deque()
        while batch := list(islice(records, _BATCH)):
            pending.append(pool.submit(look, batch))
            if len(pending) > 2 * _THREADS:
                yield from pending.popleft().result()
        while pending:
            yield from pending.popleft().result()


def _problem(paths: Iterable[Path], verify: bool) -> _Problem | None:
    for path in paths:
        if problem := file_problem(path):
            return problem
        if verify:
            try:
                check_image(path.read_bytes())
            except ImageError as error:
                return "image does not decode", f"{path}: {error}"
            except OSError as error:
                return "image cannot be read", f"{path}: {error.strerror or error}"
    return None


def _name(path: Path, image_root: Path) -> str:
    """Return the path of an image below ``image_root``, with ``/`` between its parts."""
    name = os.path.relpath(path, image_root)
    if name.split(os.sep)[0] == os.pardir:
        raise DataError(f"{path} does not lie in --image-root {image_root}: name a folder that holds all images")
    return name.replace(os.sep, "/")


def _texts(item: Item) -> int:
    captions = item.get("caption")
    return len(captions) if isinstance(captions, list) else 1
