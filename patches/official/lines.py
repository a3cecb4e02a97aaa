"""Insert whole lines into a file's bytes and take them out again, to the byte."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import NamedTuple


class Insertion(NamedTuple):
    """Lines, without their ends, that stand after line ``after`` of the official file (0: before its first).

    The last one is not empty: it could not be told from the end of a file that ends without a line end.
    """

    after: int
    lines: tuple[str, ...]


def blob(data: bytes) -> str:
    """The id that git gives a file of these bytes (``git hash-object``)."""
    return hashlib.sha1(b"blob %d\0" % len(data) + data, usedforsecurity=False).hexdigest()


def odd_line_ends(data: bytes) -> str:
    """What line ends other than ``\\n`` the file has, for a message; empty if it has none."""
    windows = data.count(b"\r\n")
    if data.count(b"\r") > windows:
        return "a carriage return that ends no line (\\r)"
    if not windows:
        return ""
    return "line ends of Windows (\\r\\n)" if windows == data.count(b"\n") else "mixed line ends (\\r\\n and \\n)"


def split(data: bytes) -> tuple[list[bytes], bool]:
    """The lines without their ends, and whether the last one has an end."""
    lines = data.split(b"\n")
    ended = lines[-1] == b""
    return (lines[:-1] if ended else lines), ended


def _joined(lines: list[bytes], ended: bool) -> bytes:
    return b"\n".join(lines) + (b"\n" if ended and lines else b"")


def inserted(data: bytes, insertions: Sequence[Insertion]) -> bytes:
    """The file with the insertions, given in the order of their places; a last line without end stays without.

    Raises:
        ValueError: a place lies beyond the end, or before the place of the insertion before it.
    """
    lines, ended = split(data)
    result: list[bytes] = []
    position = 0
    for after, new in insertions:
        if not position <= after <= len(lines):
            raise ValueError(f"no line {after} after line {position} in a file of {len(lines)} lines")
        result += lines[position:after] + [line.encode() for line in new]
        position = after
    return _joined(result + lines[position:], ended)


def found(data: bytes, insertions: Sequence[Insertion]) -> list[int | None]:
    """Where each insertion's lines stand, counted from 0: None where they do not, or more often than they should."""
    lines, _ = split(data)
    result: list[int | None] = []
    position = 0
    for _, new in insertions:
        block = [line.encode() for line in new]
        places = [i for i in range(len(lines) - len(block) + 1) if lines[i : i + len(block)] == block]
        if len(places) != sum(other == new for _, other in insertions):
            result.append(None)
            continue
        start = next((i for i in places if i >= position), None)
        result.append(start)
        position = position if start is None else start + len(block)
    return result


def places(data: bytes, insertions: Sequence[Insertion]) -> tuple[Insertion, ...]:
    """The insertions with the lines behind which they stand now, counted without them; all must be found."""
    result, shift = [], 0
    for (_, new), start in zip(insertions, found(data, insertions), strict=True):
        if start is None:
            raise ValueError(f"not found: {new[0]}")
        result.append(Insertion(start - shift, new))
        shift += len(new)
    return tuple(result)


def touched(data: bytes, insertions: Sequence[Insertion]) -> bool:
    """Whether any line that we insert stands in the file; empty lines do not count."""
    lines = set(split(data)[0])
    return any(line.strip() and line.encode() in lines for _, new in insertions for line in new)


def without(data: bytes, insertions: Sequence[Insertion]) -> bytes | None:
    """The file without the insertions' lines, wherever they stand now; None if some are gone, changed or doubled."""
    lines, ended = split(data)
    for (_, new), start in reversed(list(zip(insertions, found(data, insertions), strict=True))):
        if start is None:
            return None
        del lines[start : start + len(new)]
    return _joined(lines, ended)
