"""The samples of a tar shard, one after the other as they lie there; nothing is unpacked.

A sample is what webdataset takes for one: members beside each other whose names differ in their suffix alone.
"""

from __future__ import annotations

import io
import tarfile
from collections.abc import Iterator
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

_LARGEST = 64 << 20  # bytes of a member: a header that lies must not fill the memory
_TEXTS = ("json", "txt")
_DAMAGED = "tar that is cut off or damaged: the rest of it is lost"
# What tarfile raises of bytes that are no tar; numbers and names of a header may be anything.
_BROKEN = (tarfile.TarError, OSError, ValueError, OverflowError, IndexError, KeyError, RecursionError)


class _Member(NamedTuple):
    key: str
    suffix: str
    data: bytes


def tar_samples(path: Path, headers_alone: bool = False) -> Iterator[Item]:
    """Yield what a tar holds, in its order: a sample or, with the reason, what is left out.

    Args:
        headers_alone: no image is read, and no caption; samples have their keys and names.
    """
    seen: set[str] = set()
    group: list[_Member] = []
    for member in _members(path, headers_alone):
        if isinstance(member, Unusable):
            if member.reason == _DAMAGED:
                yield from _whole(path, group, seen, headers_alone)
                group = []
            yield member
        elif group and (member.key != group[0].key or member.suffix in {other.suffix for other in group}):
            yield _sample(path, group, seen, headers_alone)
            group = [member]
        else:
            group.append(member)
    if group:
        yield _sample(path, group, seen, headers_alone)


def _whole(path: Path, group: list[_Member], seen: set[str], headers_alone: bool) -> Iterator[Item]:
    """The sample before the damage, if it came to its end."""
    suffixes = {member.suffix for member in group}
    if suffixes & set(IMAGE_SUFFIXES) and suffixes & set(_TEXTS):
        yield _sample(path, group, seen, headers_alone)


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


def _members(path: Path, headers_alone: bool) -> Iterator[_Member | Unusable]:
    """Yield the images and texts of a tar, and what is wrong with other members."""
    place = 0
    try:
        with _Bounded(io.FileIO(path)) as handle, tarfile.open(fileobj=handle, mode="r:") as archive:
            while (info := archive.next()) is not None:
                if archive.offset <= place:  # a size below zero: it would be read for ever
                    raise tarfile.ReadError("a member has no size")
                place = archive.offset
                archive.members.clear()  # or it would keep the headers of all
                if info.isdir():
                    continue
                if (problem := _problem(info)) is not None:
                    yield Unusable(problem, f"{path}: {_printed(info.name)}")
                    continue
                member = archive.extractfile(info) if not headers_alone else None
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
