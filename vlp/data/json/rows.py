"""The rows of JSON lists: read once, checked, and kept small."""

from __future__ import annotations

import json
from array import array
from bisect import bisect_right
from collections import Counter
from collections.abc import Callable, Hashable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple

from vlp.data.errors import DataError
from vlp.data.fed import digest_of
from vlp.data.json.fields import Row, RowKind
from vlp.data.json_stream import iter_json_elements


class Place(NamedTuple):
    """Where a row stands: the name of its list (:attr:`JsonRows.names`) and its number there, from 0."""

    dataset: str
    row: int


class JsonRows(Sequence[Row]):
    """The rows of several lists, one list after the other; row i is decoded when it is asked for.

    The rows stay what they are in the files, text, in one piece of memory: a few bytes more than on the disk instead
    of the ten times that Python's objects take, and none of it is copied in the loader's workers, which are forks.

    Attributes:
        paths: the lists.
        names: their names, the files' stems; of two files with one stem the second is ``stem#2``.
    """

    def __init__(
        self,
        paths: Sequence[str | Path],
        kind: RowKind,
        across: bool = False,
        complaint: Callable[[int, Row], str | None] = lambda number, row: None,
    ) -> None:
        """
        Args:
            paths: JSON files that hold a list each.
            across: no two rows of *all* lists may have one identity; else no two of one list.
            complaint: the number of a list and a row of it -> what else is wrong with the row.

        Raises:
            DataError: a file is missing, no JSON list or empty, or a row is not as ``kind`` wants it.
        """
        if not paths:
            raise DataError(f"no list of {kind.name} rows is given: name at least one JSON file")
        self.paths, self.names = [Path(path) for path in paths], names_of(paths)
        self._text, self._ends = bytearray(), array("q", [0])
        self._starts = []  # of each list
        seen: dict[Hashable, int] = {}
        for number, path in enumerate(self.paths):
            self._starts.append(len(self))
            self._read(path, kind, seen if across else {}, partial(complaint, number))

    def _read(
        self, path: Path, kind: RowKind, seen: dict[Hashable, int], complaint: Callable[[Row], str | None]
    ) -> None:
        start = len(self)
        for number, (row, source) in enumerate(iter_json_elements(path)):
            if wrong := kind.complaint(row) or complaint(row):
                raise DataError(f"{path}: row {number}: {wrong}")
            if kind.identity and (identity := kind.identity(row)) is not None:
                first = seen.setdefault(identity, len(self))
                if first != len(self):
                    there = f"is there already ({self.describe(first)}); each may occur once"
                    raise DataError(f"{path}: row {number}: {identity!r} {there}")
            self._text += source.encode()
            self._ends.append(len(self._text))
        if len(self) == start:
            raise DataError(f"{path} is an empty list: {kind.name} rows with {', '.join(kind.fields)} are needed")

    def __len__(self) -> int:
        return len(self._ends) - 1

    def __getitem__(self, index: int) -> Row:  # type: ignore[override]
        if not 0 <= index < len(self):
            raise IndexError(f"row {index} of {len(self)}")
        row: Row = json.loads(self._text[self._ends[index] : self._ends[index + 1]])
        return row

    def __iter__(self) -> Iterator[Row]:
        return (self[index] for index in range(len(self)))

    def of_list(self, number: int) -> range:
        """The rows of a list."""
        return range(self._starts[number], [*self._starts, len(self)][number + 1])

    def digest(self, number: int) -> str:
        """The digest of a list's rows; white space between them does not count."""
        rows = self.of_list(number)
        with memoryview(self._text) as text, text[self._ends[rows.start] : self._ends[rows.stop]] as content:
            return digest_of(content, f"{len(rows)} rows")

    def list_of(self, index: int) -> int:
        """The number of the list that row ``index`` is in."""
        return bisect_right(self._starts, index) - 1

    def place(self, index: int) -> Place:
        """Where row ``index`` stands."""
        number = self.list_of(index)
        return Place(self.names[number], index - self._starts[number])

    def describe(self, index: int) -> str:
        """Row ``index`` for messages: file and row."""
        return f"{self.paths[self.list_of(index)]}: row {self.place(index).row}"


def names_of(paths: Sequence[str | Path]) -> list[str]:
    """The stem of each path; of two with one stem the second is ``stem#2``."""
    times: Counter[str] = Counter()
    names = []
    for stem in (Path(path).stem for path in paths):
        times[stem] += 1
        names.append(stem if times[stem] == 1 else f"{stem}#{times[stem]}")
    return names
