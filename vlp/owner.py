"""One owner per output folder: whoever writes into a folder holds its lock file; a second one is refused at once.

The lock is a record lock of an open file description (fcntl(2), F_OFD_SETLK): it works over NFS and ends with its
process, whatever ends that. A fork closes its copy; a command that is given the descriptor shares the lock.
"""

from __future__ import annotations

import atexit
import errno
import fcntl
import json
import os
import shlex
import socket
import struct
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import NamedTuple

from vlp.files import read_json

_NO_LOCKS = {errno.ENOLCK, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.EINVAL}
_BUSY = {errno.EAGAIN, errno.EACCES}


class HeldError(OSError):
    """Another process writes there; the message names it and says what to do."""


class Claim(NamedTuple):
    """What one process alone may do at a time.

    Attributes:
        folder: where it writes.
        name: of the lock file, ``.{name}.lock``; other names in a folder are other claims.
        instead: what a second process is told to do besides waiting.
        doing: goes before the folder in the message.
    """

    folder: Path
    name: str = "run"
    instead: str = "name another folder"
    doing: str = "writing into"

    @property
    def file(self) -> Path:
        return self.folder.absolute() / f".{self.name}.lock"


class _Held(NamedTuple):
    file: Path
    descriptor: int
    made: list[Path]  # folders, the innermost first


_held: list[_Held] = []


def own(claim: Claim, new: bool = False) -> None:
    """Hold ``claim`` to the end of this process, which may ask for it again.

    Args:
        new: the folder must not be there yet.

    Raises:
        HeldError: another process holds it.
        FileExistsError: the folder is there, with ``new``, or is a file.
        OSError: the folder cannot be written.
    """
    if not _is_mine(claim):
        _take(claim, new)


@contextmanager
def held(claim: Claim) -> Iterator[int]:
    """Hold ``claim`` until the block ends, which is given the lock's descriptor.

    Folders that were made here and are still empty at the end are removed.

    Raises:
        HeldError, OSError: as :func:`own`; this process must not hold it, either.
    """
    mine = _take(claim)
    try:
        yield mine.descriptor
    finally:
        _release(mine)


def note_process(descriptor: int, process: int) -> None:
    """Write into a lock that ``process``, which shares it, is the one to be stopped."""
    who = {**json.loads(os.pread(descriptor, os.fstat(descriptor).st_size, 0)), "pid": process}
    _write(descriptor, who)


def is_held(claim: Claim) -> bool:
    """Whether a process holds ``claim``; nothing is written."""
    try:
        descriptor = os.open(claim.file, os.O_RDONLY | os.O_NONBLOCK)
    except (FileNotFoundError, NotADirectoryError):
        return False
    try:
        answer = fcntl.fcntl(descriptor, fcntl.F_OFD_GETLK, _record())
    except OSError:
        return False  # there are no locks here
    finally:
        os.close(descriptor)
    return struct.unpack_from("h", answer)[0] != fcntl.F_UNLCK


def check_free(claim: Claim) -> None:
    """Refuse what another process holds, as :func:`own` does, without taking it.

    Raises:
        HeldError: another process holds it.
    """
    if not _is_mine(claim) and is_held(claim):
        raise HeldError(_refusal(claim))


def _is_mine(claim: Claim) -> bool:
    return any(each.file == claim.file and _is_open_file(*each[:2]) for each in _held)


def _take(claim: Claim, new: bool = False) -> _Held:
    made = [folder for folder in (claim.file.parent, *claim.file.parent.parents) if not folder.exists()]
    claim.folder.mkdir(parents=True, exist_ok=not new)
    mine = _Held(claim.file, _lock(claim), made)
    _held.append(mine)
    since = time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime())
    command = " ".join(shlex.join(sys.orig_argv).split())  # of one line, as a message is
    who = {"pid": os.getpid(), "host": socket.gethostname(), "since": since}
    try:
        _write(mine.descriptor, {**who, "folder": str(claim.file.parent), "command": command})
    except OSError:  # the disk is full
        _release(mine)
        raise
    return mine


def _lock(claim: Claim) -> int:
    """A descriptor that holds the lock of the file that is there."""
    while True:
        descriptor = os.open(claim.file, os.O_RDWR | os.O_CREAT, 0o666)
        try:
            fcntl.fcntl(descriptor, fcntl.F_OFD_SETLK, _record())
        except OSError as error:
            if error.errno in _NO_LOCKS:
                print(_no_locks(claim, error), file=sys.stderr, flush=True)
                return descriptor
            os.close(descriptor)
            if error.errno in _BUSY:
                raise HeldError(_refusal(claim)) from None
            if error.errno != errno.ESTALE:
                raise
            continue  # NFS: its last holder has removed it
        if _is_open_file(claim.file, descriptor):
            return descriptor
        os.close(descriptor)  # its last holder has removed it: its lock keeps nobody out


def _record() -> bytes:
    """``struct flock`` of 64-bit Linux: a write lock of the whole file."""
    return struct.pack("hhqqi4x", fcntl.F_WRLCK, os.SEEK_SET, 0, 0, 0)


def _is_open_file(path: Path, descriptor: int) -> bool:
    try:
        return os.path.samestat(os.stat(path), os.fstat(descriptor))
    except FileNotFoundError:
        return False


def _write(descriptor: int, who: dict[str, object]) -> None:
    os.ftruncate(descriptor, 0)
    os.pwrite(descriptor, json.dumps(who).encode(), 0)


def _holder(path: Path) -> tuple[str, str]:
    """The process that a lock file names, and its host; "" where it names none (yet)."""
    try:
        who = read_json(path)
        return f"process {who['pid']} on {who['host']} since {who['since']} ({who['command']})", str(who["host"])
    except (OSError, ValueError, KeyError, TypeError):
        return "", ""


def _refusal(claim: Claim) -> str:
    deadline = time.monotonic() + 1
    while not (found := _holder(claim.file))[0] and time.monotonic() < deadline:
        time.sleep(0.05)  # it is just taking or leaving it
    who, host = found
    gone = f"; if that machine has crashed, remove {claim.file}" if host not in ("", socket.gethostname()) else ""
    return f"{who or 'another process'} is {claim.doing} {claim.folder}: wait for it, or {claim.instead}{gone}"


def _no_locks(claim: Claim, error: OSError) -> str:
    last, _ = _holder(claim.file)
    return (
        f"notice: {claim.folder} has no file locks ({error.strerror}): see yourself that nothing else is {claim.doing} "
        f"it{f'; the last to begin there was {last}' if last else ''}"
    )


def _release(mine: _Held) -> None:
    _held.remove(mine)
    if _is_open_file(mine.file, mine.descriptor):
        mine.file.unlink()  # before the lock goes: who gets a removed file tries again
    os.close(mine.descriptor)
    with suppress(OSError):  # the folder is used, or gone
        for folder in mine.made:
            folder.rmdir()


@atexit.register
def release_all() -> None:
    """Give back all that this process holds, as its end does."""
    for mine in [*_held]:
        with suppress(OSError):
            _release(mine)


def _drop_in_fork() -> None:
    for each in _held:
        os.close(each.descriptor)
    _held.clear()


os.register_at_fork(after_in_child=_drop_in_fork)
