"""The samples of a tar shard, one after the other as they lie there; nothing is unpacked.

A sample is what webdataset takes for one: members beside each other whose names differ in their suffix alone.
"""

from __future__ import annotations

import io
import tarfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import BinaryIO, NamedTuple

from vlp.data.raw.img2dataset.samples import (
    IMAGE_SUFFIXES,
    NO_CAPTION,
    NO_IMAGE,
    REPEATED,
    SUCCESS,
    UNREADABLE,
    Item,
    Sample,
    Unusable,
    annotation_of,
    failed,
)
from vlp.files import regular

_LARGEST = 64 << 20  # bytes of a member: a header that lies must not fill the memory
_TEXTS = ("json", "txt")
_DAMAGED = "tar that is cut off or damaged: the rest of it is lost"
# What tarfile raises of bytes that are no tar; numbers and names of a header may be anything.
_BROKEN = (tarfile.TarError, OSError, ValueError, OverflowError, IndexError, KeyError, RecursionError)


class _Member(NamedTuple):
    key: str
    suffix: str
    data: bytes


def tar_samples(path: Path, skip: int = 0) -> Iterator[Item]:
    """Yield what a tar holds, in its order: a sample or, with the reason, what is left out.

    Of the first ``skip`` of them headers alone are read: those samples have keys and names, no image and no caption.
    """
    seen: set[str] = set()
    for number, group in enumerate(_Groups(path, skip).read()):
        yield group if isinstance(group, Unusable) else _sample(path, group, seen, number < skip)


class _Groups:
    """The members of each sample, and what is wrong with other members; of one within a sample it comes behind it."""

    def __init__(self, path: Path, skip: int) -> None:
        self.path, self.skip = path, skip
        self._open: list[_Member] = []
        self._behind: list[Unusable] = []
        self._done = 0

    def read(self) -> Iterator[list[_Member] | Unusable]:
        for member in _members(self.path, self._is_wanted):
            if isinstance(member, Unusable):
                if member.reason == _DAMAGED and not _is_whole(self._open):
                    self._open = []
                self._behind.append(member)
            elif not self._open or member.key != self._open[0].key or self._has(member.suffix):
                yield from self._close()
                self._open = [member]
            else:
                self._open.append(member)
            if not self._open:
                yield from self._close()
        yield from self._close()

    def _is_wanted(self) -> bool:
        """Whether the next member may belong to a sample that is not skipped."""
        return self._done + bool(self._open) + len(self._behind) >= self.skip

    def _has(self, suffix: str) -> bool:
        return suffix in {member.suffix for member in self._open}

    def _close(self) -> Iterator[list[_Member] | Unusable]:
        closed: list[list[_Member] | Unusable] = [self._open] if self._open else []
        closed += self._behind
        self._open, self._behind, self._done = [], [], self._done + len(closed)
        yield from closed


def _is_whole(group: list[_Member]) -> bool:
    suffixes = {member.suffix for member in group}
    return bool(suffixes & set(IMAGE_SUFFIXES) and suffixes & set(_TEXTS))


def _sample(path: Path, group: list[_Member], seen: set[str], headers_alone: bool) -> Item:
    key, parts = group[0].key, {member.suffix: member.data for member in group}
    suffix = next((suffix for suffix in parts if suffix in IMAGE_SUFFIXES), None)
    if suffix is None:
        return Unusable(NO_IMAGE, f"{path}: {key}")
    name = f"{key}.{suffix}"
    if key in seen:
        return Unusable(REPEATED, f"{path}: {name}")
    seen.add(key)
    if not parts.keys() & set(_TEXTS):
        return Unusable(NO_CAPTION, f"{path}: {name}")
    if headers_alone:
        return Sample(key, name, b"", "")
    try:
        annotation = annotation_of(parts.get("json"), parts.get("txt"))
    except ValueError as error:
        return Unusable(UNREADABLE, f"{path}: {name}: {error}")
    if annotation.status != SUCCESS:
        return Unusable(failed(annotation.status), f"{path}: {name}")
    return Sample(key, name, parts[suffix], annotation.caption)


def _members(path: Path, is_wanted: Callable[[], bool]) -> Iterator[_Member | Unusable]:
    """Yield the images and texts of a tar, read if wanted, and what is wrong with other members."""
    place = 0
    try:
        with _Bounded(io.FileIO(regular(path))) as handle, tarfile.open(fileobj=handle, mode="r:") as archive:
            while (info := archive.next()) is not None:
                if archive.offset <= place:  # a size below zero: it would be read for ever
                    raise tarfile.ReadError("a member has no size")
                place = archive.offset
                archive.members.clear()  # type: ignore[attr-defined]  # or it would keep the headers of all
                if info.isdir():
                    continue
                if (problem := _problem(info)) is not None:
                    yield Unusable(problem, f"{path}: {_printed(info.name)}")
                    continue
                member = archive.extractfile(info) if is_wanted() else None
                key, _, suffix = info.name.rpartition("/")[2].rpartition(".")
                yield _Member(key, suffix.lower(), b"" if member is None else member.read())
            _require_end(handle, place)
    except _BROKEN as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        yield Unusable(_DAMAGED, f"{path} from byte {place} on: {reason}")


def _problem(info: tarfile.TarInfo) -> str | None:
    if not info.isreg() or info.issparse():
        return "member of a tar that is no regular file"
    if info.size > _LARGEST:
        return f"member of a tar that is larger than {_LARGEST >> 20} MB"
    if _printed(info.name) != info.name:
        return "file whose name is no UTF-8: rename it"
    if info.name.rpartition(".")[2].lower() not in (*IMAGE_SUFFIXES, *_TEXTS):
        return "member of a tar that is neither image nor caption"
    return None


def _printed(name: str) -> str:
    return name.encode(errors="replace").decode()


def _require_end(handle: BinaryIO, place: int) -> None:
    """Raise a ReadError if no block of zeros, the mark of the end, stands where the last member ends."""
    handle.seek(place)
    if handle.read(tarfile.BLOCKSIZE) != bytes(tarfile.BLOCKSIZE):
        raise tarfile.ReadError("no member and no end follows")


class _Bounded(io.BufferedReader):
    """A file of which no more than a member's largest size is read at once."""

    def read(self, size: int | None = -1, /) -> bytes:
        if size is None or not 0 <= size <= _LARGEST + tarfile.BLOCKSIZE:
            raise tarfile.ReadError(f"a header of {size} bytes")
        return super().read(size)
