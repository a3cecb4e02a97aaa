"""The image files of a conversion: why one cannot be used, found out several at a time, and how rows name them."""

from __future__ import annotations

import os
import stat
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice
from pathlib import Path
from typing import TypeVar

from vlp.data.errors import DataError
from vlp.data.images import ImageError, check_image

Record = TypeVar("Record")
Seen = TypeVar("Seen")
Problem = tuple[str, str]  # reason, example

_KINDS = {stat.S_IFDIR: "a folder", stat.S_IFIFO: "a FIFO", stat.S_IFSOCK: "a socket"}
_THREADS, _BATCH = 8, 256


def file_problem(path: Path) -> Problem | None:
    """Return (reason, example) if ``path`` is missing, empty or no regular file, which must never be opened."""
    try:
        status = path.stat()
    except FileNotFoundError:
        return "annotation without image", str(path)
    except (OSError, ValueError) as error:  # a ValueError: a name that no file can have
        return "image cannot be read", f"{path}: {getattr(error, 'strerror', None) or error}"
    if not stat.S_ISREG(status.st_mode):  # opening a FIFO would wait for a writer
        kind = _KINDS.get(stat.S_IFMT(status.st_mode), "a device")
        return "image is no regular file", f"{path}: {kind}"
    return None if status.st_size else ("zero-byte image", str(path))


def content_problem(path: Path, data: bytes, verify: bool) -> Problem | None:
    """As :func:`file_problem`, of an image that has been read; with ``verify`` it is decoded, too."""
    if not data:
        return "zero-byte image", str(path)
    if verify:
        try:
            check_image(data)
        except ImageError as error:
            return "image does not decode", f"{path}: {error}"
    return None


def image_problem(path: Path, verify: bool) -> Problem | None:
    """As :func:`file_problem`; with ``verify`` the image is decoded, too."""
    if problem := file_problem(path):
        return problem
    if verify:
        try:
            return content_problem(path, path.read_bytes(), verify)
        except OSError as error:
            return "image cannot be read", f"{path}: {error.strerror or error}"
    return None


def looked_at(
    records: Iterator[Record], look: Callable[[Record], Seen], size: int = _BATCH
) -> Iterator[tuple[Record, Seen]]:
    """Yield each record with what ``look`` says of its files.

    Threads look ahead, for a network disk answers slowly; each takes ``size`` records at once.
    """

    def look_at_all(batch: list[Record]) -> list[tuple[Record, Seen]]:
        return [(record, look(record)) for record in batch]

    with ThreadPoolExecutor(_THREADS) as pool:
        pending: deque[Future[list[tuple[Record, Seen]]]] = deque()
        while batch := list(islice(records, size)):
            pending.append(pool.submit(look_at_all, batch))
            if len(pending) > 2 * _THREADS:
                yield from pending.popleft().result()
        while pending:
            yield from pending.popleft().result()


def name_below(path: Path, image_root: Path) -> str:
    """Return the path of an image below ``image_root``, with ``/`` between its parts.

    Raises:
        DataError: it lies outside.
    """
    name = os.path.relpath(path, image_root)
    if name.split(os.sep)[0] == os.pardir:
        raise DataError(f"{path} does not lie in --image-root {image_root}: name a folder that holds all images")
    return name.replace(os.sep, "/")
