"""JSON files that hold one long list, or an object of long lists, read element by element."""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TextIO

from vlp.data.errors import DataError

_CHUNK = 1 << 20
_LONGEST = 1 << 26  # characters of one element: a list that is cut or broken must not fill the memory
_SPACE = re.compile(r"[ \t\r\n]*")
_COMMA = re.compile(r"[ \t\r\n]*,[ \t\r\n]*")
_ENDS = frozenset(",]}: \t\r\n")  # what may stand behind a value
_DECODER = json.JSONDecoder()


def iter_json_list(path: Path, longest: int = _LONGEST) -> Iterator[Any]:
    """Yield the elements of a JSON file that holds one list, without holding the list in memory.

    Raises:
        DataError: the file is missing or no regular one, is no UTF-8 text, or does not hold a JSON list; the message
            names the row (counted from 0) that cannot be read.
    """
    return (value for value, _ in iter_json_elements(path, longest))


def iter_json_elements(path: Path, longest: int = _LONGEST) -> Iterator[tuple[Any, str]]:
    """As :func:`iter_json_list`, each element with its text in the file."""
    with _window(path, longest) as window:
        yield from window.elements()


def iter_json_members(path: Path, wanted: Collection[str], longest: int = _LONGEST) -> Iterator[tuple[str, Any]]:
    """Yield (name, element) for the lists ``wanted`` of a JSON file that holds one object, such as COCO's annotations.

    They come in the order of the file. A member that is no list, or is not wanted, is passed over.

    Raises:
        DataError: as :func:`iter_json_list`; or the file does not hold a JSON object.
    """
    with _window(path, longest) as window:
        yield from window.members(wanted)


@contextmanager
def _window(path: Path, longest: int) -> Iterator[_Window]:
    if not path.is_file():
        raise DataError(f"{path} {'is not a regular file' if path.exists() else 'not found'}; give the path of a list")
    try:
        with open(path, encoding="utf-8-sig") as handle:
            yield _Window(handle, path, longest)
    except UnicodeDecodeError as error:
        raise DataError(f"{path} is not UTF-8 text: {error}; write it again") from error


class _Window:
    """A window of a file's text that moves with the reading."""

    def __init__(self, handle: TextIO, path: Path, longest: int) -> None:
        self._handle, self._path, self._longest = handle, path, longest
        self._text, self._at, self._row, self._list = handle.read(_CHUNK), 0, 0, ""

    def elements(self) -> Iterator[tuple[Any, str]]:
        """The elements of the list and their texts."""
        if (first := self._next()) != "[":
            raise DataError(f"{self._path} does not hold a JSON list: it begins with {first!r} where '[' is expected")
        yield from self._elements()
        if self._next():
            raise DataError(f"{self._path}: text behind the end of the list of {self._row} rows; mend the file")

    def members(self, wanted: Collection[str]) -> Iterator[tuple[str, Any]]:
        """The elements of an object's lists, each with the name of its list."""
        if (first := self._next()) != "{":
            raise DataError(
                f"{self._path} does not hold a JSON object: it begins with {first!r} where '{{' is expected"
            )
        self._at += 1
        more = self._next() != "}"
        while more:
            name = self._member()
            if self._next() == "[":
                yield from ((name, value) for value, _ in self._elements(f"{name}, ") if name in wanted)
            else:
                self._element()
            more = self._comma("}")
        self._at += 1
        if self._next():
            raise DataError(f"{self._path}: text behind the end of the object; mend the file")

    def _member(self) -> str:
        """Pass the name of a member and the colon behind it."""
        name, _ = self._element()
        if not isinstance(name, str) or self._next() != ":":
            raise self._error("is followed by no name of a list with ':' behind it")
        self._at += 1
        return name

    def _elements(self, name: str = "") -> Iterator[tuple[Any, str]]:
        """The elements of the list that begins here, which messages call ``name``."""
        self._row, self._list = 0, name
        self._at += 1
        more = self._next() != "]"
        while more:
            yield self._element()
            more = self._comma()
            self._row += 1
        self._at += 1

    def _element(self) -> tuple[Any, str]:
        while True:
            too_long = len(self._text) - self._at > self._longest
            try:
                value, end = _DECODER.raw_decode(self._text, self._at)
            except RecursionError:
                raise self._error("is nested too deep") from None
            except ValueError as error:
                if too_long or not self._read_on():
                    raise self._error(f"is not valid JSON ({getattr(error, 'msg', error)})") from None
                continue
            # Numbers that the window cuts ("1." of 1.5) are values, too.
            if self._text[end : end + 1] in _ENDS or too_long or not self._read_on():
                source, self._at = self._text[self._at : end], end
                return value, source

    def _comma(self, end: str = "]") -> bool:
        """Pass what stands between two elements; False at ``end``, that of the list."""
        match = _COMMA.match(self._text, self._at)
        if match and match.end() < len(self._text):
            self._at = match.end()
            return True
        mark = self._next()
        if mark not in (",", end):
            raise self._error(f"is not followed by ',' or {end!r}")
        if mark == end:
            return False
        self._at += 1
        self._next()
        return True

    def _next(self) -> str:
        """The next character that is no white space, without passing it; "" at the end of the file."""
        while True:
            match = _SPACE.match(self._text, self._at)
            assert match is not None
            self._at = match.end()
            if self._at < len(self._text) or not self._read_on():
                return self._text[self._at : self._at + 1]

    def _read_on(self) -> bool:
        """Read more of the file; False at its end."""
        chunk = self._handle.read(max(_CHUNK, len(self._text) - self._at))
        self._text, self._at = self._text[self._at :] + chunk, 0
        return bool(chunk)

    def _error(self, complaint: str) -> DataError:
        near = self._text[self._at : self._at + 60]
        shown = f" near {near!r}" if near else ": the file ends there"
        where = f"{self._path}: {self._list}row {self._row}"
        return DataError(f"{where} {complaint}{shown}; write the list again or mend it")
