"""The folder that a conversion writes to: made and held, or refused before hours of work."""

from __future__ import annotations

import fcntl
import json
import os
import shlex
import socket
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from vlp.data.errors import DataError


@contextmanager
def held_output(folder: Path, dataset: str) -> Iterator[None]:
    """Make ``folder`` and keep other conversions of ``dataset`` out of it until the block ends.

    The lock is that of the open file ``.{dataset}.lock``: the system releases it when the process dies. A folder that
    is still empty at the end and was made here is removed.

    Raises:
        DataError: ``folder`` is a file, cannot be made or written to, or another process holds it.
    """
    path = folder / f".{dataset}.lock"
    try:
        made = not folder.exists()
        folder.mkdir(parents=True, exist_ok=True)
        descriptor = _lock(path, dataset)
    except (FileExistsError, NotADirectoryError):
        raise DataError(f"--output {folder} is or lies in a file, not a folder; name another") from None
    except (OSError, ValueError) as error:  # a ValueError: a name that no file can have
        reason = getattr(error, "strerror", None) or error
        raise DataError(f"cannot write into --output {folder} ({reason}); name a folder that can be written") from error
    try:
        yield
    finally:
        path.unlink(missing_ok=True)  # before the lock goes: who gets a removed file tries again
        os.close(descriptor)
        if made:
            with suppress(OSError):  # it holds tables
                folder.rmdir()


def _lock(path: Path, dataset: str) -> int:
    """Return a descriptor that holds the lock of ``path``, in which stands who holds it."""
    while True:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(descriptor)
            raise DataError(_busy(path, dataset)) from None
        except OSError as error:
            print(
                f"notice: {path.parent} has no file locks ({error.strerror}): convert once at a time", file=sys.stderr
            )
        if _is_open_file(path, descriptor):
            break
        os.close(descriptor)  # another process removed the file meanwhile: its lock keeps nobody out
    try:
        os.ftruncate(descriptor, 0)
        os.write(descriptor, _holder())
    except OSError:  # the disk is full
        path.unlink(missing_ok=True)
        os.close(descriptor)
        raise
    return descriptor


def _is_open_file(path: Path, descriptor: int) -> bool:
    try:
        return os.path.samestat(os.stat(path), os.fstat(descriptor))
    except FileNotFoundError:
        return False


def _holder() -> bytes:
    since = time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime())
    who = {"pid": os.getpid(), "host": socket.gethostname(), "since": since, "command": shlex.join(sys.orig_argv)}
    return json.dumps(who).encode()


def _busy(path: Path, dataset: str) -> str:
    try:
        holder = json.loads(path.read_bytes())
        who = f"process {holder['pid']} on {holder['host']} since {holder['since']} ({holder['command']})"
    except (OSError, ValueError, KeyError, TypeError):  # it is just taking or leaving the lock
        who = "another process"
    return f"{who} is converting {dataset} into {path.parent}: wait for it, or name another --output"
