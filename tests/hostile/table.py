"""What a row of the table is: an input, and what is promised of it."""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import NamedTuple

import pytest


class Row(NamedTuple):
    """One input.

    Attributes:
        group: the row of the table in docs/running.md that it belongs to.
        line: the items of a command line, as a shell reads them.
        status: the exit status.
        words: what the message has.
    """

    group: str
    line: str
    status: int
    words: tuple[str, ...]

    @property
    def items(self) -> list[str]:
        return shlex.split(self.line)


def rows(group: str, status: int, table: Mapping[str, str | tuple[str, ...]]) -> list[Row]:
    """Rows of one group from lines and words."""
    return [Row(group, line, status, (words,) if isinstance(words, str) else words) for line, words in table.items()]


class Case(NamedTuple):
    """One file or folder that is not what it should be, and the command that meets it.

    Attributes:
        row: the command, ``{place}`` the folder that ``make`` is given, and what is promised of it.
        make: writes the input.
        written: what the command may write below that folder; nothing else there may change.
    """

    name: str
    row: Row
    make: Callable[[Path], object]
    written: str = ""


def each_case(cases: Iterable[Case]) -> pytest.MarkDecorator:
    """A test for each case."""
    cases = list(cases)
    return pytest.mark.parametrize("case", cases, ids=[case.name.replace(" ", "_") for case in cases])


def each(table: Iterable[Row]) -> pytest.MarkDecorator:
    """A test for each row, named after its line."""
    table = list(table)
    return pytest.mark.parametrize("row", table, ids=[re.sub(r"[^\w=.\-]+", "_", row.line)[:60] for row in table])
