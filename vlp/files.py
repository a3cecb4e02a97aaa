"""Files that appear under their final name only when they are complete."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, BinaryIO

_OTHERS = {stat.S_ISDIR: "a folder", stat.S_ISFIFO: "a pipe", stat.S_ISSOCK: "a socket"}
_DISK_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}


@contextmanager
def atomic_open(path: str | Path) -> Iterator[BinaryIO]:
    """Open a temporary file beside ``path`` for writing; it replaces ``path`` when the block ends without an error.

    The data is synced to disk before the rename, so a kill at any moment leaves the old file or the new one.
    On an error the temporary file is removed; a full disk is reported by the name of the file and what to do.

    Raises:
        OSError: the file cannot be written; with the path and, on a full disk or quota, what to do.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.tmp")
    try:
        with open(partial, "wb") as handle:
            yield handle
            handle.flush()
            os.fsync(handle.fileno())
        os.replace(partial, path)
    except BaseException as error:
        partial.unlink(missing_ok=True)
        if isinstance(error, OSError) and error.errno in _DISK_FULL:
            raise OSError(
                error.errno,
                f"no space left for {path.name} in {path.parent} ({os.strerror(error.errno or 0)}); the unfinished "
                "file was removed: free space or write to another disk",
            ) from error
        raise
    _sync_directory(path.parent)


def write_json(path: str | Path, value: Any) -> None:
    """Write ``value`` as indented JSON, atomically."""
    with atomic_open(path) as handle:
        handle.write(json.dumps(value, indent=2, ensure_ascii=False).encode() + b"\n")


class NotAFileError(OSError):
    """Something else is there: no fault of the system, whose errors begin with a number."""

    def __str__(self) -> str:
        return f"{self.filename}: {self.strerror}"


def regular(path: str | Path) -> Path:
    """``path``, of a file whose reading comes to an end: a pipe, socket or device never may.

    Raises:
        NotAFileError: it is something else; FileNotFoundError: nothing is there.
    """
    path = Path(path)
    try:
        mode = path.stat().st_mode
    except (FileNotFoundError, NotADirectoryError, ValueError):  # a ValueError: a name that no file can have
        raise FileNotFoundError(errno.ENOENT, "no such file", str(path)) from None
    if not stat.S_ISREG(mode):
        what = next((name for test, name in _OTHERS.items() if test(mode)), "a device")
        raise NotAFileError(errno.EINVAL, f"is {what}, not a file; put a file in its place", str(path))
    return path


def why_not_regular(path: str | Path) -> str:
    """What keeps ``path`` from being a :func:`regular` file; nothing if it is one."""
    try:
        regular(path)
    except OSError as error:
        return error.strerror or str(error)
    return ""


def regular_if_there(path: str | Path) -> Path:
    """:func:`regular`, of a file that is made where it is missing: one that is appended to."""
    with suppress(FileNotFoundError):
        regular(path)
    return Path(path)


def read_json(path: str | Path) -> Any:
    """The content of a :func:`regular` file of JSON.

    Raises:
        OSError: it is none, or cannot be read; ValueError, RecursionError: it holds no JSON.
    """
    return json.loads(regular(path).read_bytes())


def sha256_of_bytes(path: str | Path) -> str:
    """Hex SHA-256 of a file's bytes."""
    digest = hashlib.sha256()
    with open(regular(path), "rb") as handle:
        while chunk := handle.read(1 << 20):
            digest.update(chunk)
    return digest.hexdigest()


def _sync_directory(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
