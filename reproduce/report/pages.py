"""What a report holds, in whatever format, and the words that all formats share."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from itertools import accumulate, groupby
from pathlib import Path
from urllib.parse import quote

from reproduce.report.columns import settings
from reproduce.report.readings import Source
from reproduce.report.tables import NOT_PRINTED, NOT_RUN, Line, Table

TITLE = "EPIC's tables, printed and measured"
LEGEND = (
    "In per cent. A difference is what was measured less what is printed, a gain is a score less vanilla's; both are "
    "taken before rounding. "
    "An empty cell has not been run; – stands where the paper prints nothing. A measured number is a link to its "
    "results file, which is described below the table under the number beside it."
)
MEASURED_ONLY = "Models that were not run are left out."
NOTHING = "Nothing of this table has been run."
MOST_COLUMNS = 8  # of numbers: a page in portrait has room for these beside the names of the lines
SCALES = {"smoke": "scenes at the least sizes"}  # of other names the name says it
ON_SCENES = (
    "Measured on {scales}: these are not the paper's data, and the models are small. Such numbers say that every step "
    "runs, and nothing about the paper; no difference from what is printed is taken."
)


@dataclass(frozen=True)
class Report:
    """Tables, notes on the paper's text, and the results that are not shown, each with the reason.

    ``measured_only`` leaves out what has no measured number.
    """

    tables: tuple[Table, ...]
    notes: tuple[str, ...]
    problems: tuple[str, ...]
    measured_only: bool = False

    @property
    def legend(self) -> str:
        """How to read the tables."""
        return f"{LEGEND} {MEASURED_ONLY}" if self.measured_only else LEGEND

    def parts(self, table: Table) -> list[Table]:
        """Of one of the tables, what is shown."""
        return [*parts(table, self.measured_only)]

    @property
    def warning(self) -> str:
        """That results come from other data than the paper's; empty where none does."""
        scales = {source.scale for table in self.tables for source in table.sources} - {""}
        return ON_SCENES.format(scales=", ".join(sorted(map(scale_name, scales)))) if scales else ""


@dataclass(frozen=True)
class Shown:
    """A line as a reader wants it: names that the line above has already are left out."""

    line: Line
    model: tuple[str, ...]
    variant: str
    opens: bool  # the lines of another model


def parts(table: Table, measured_only: bool = False) -> Iterator[Table]:
    """A table cut between its settings, so that each part fits the width of a page.

    Args:
        measured_only: leave out models and gains that have no measured number there, lines that hold none, and with
            them a part of which nothing is left.
    """
    counts = [count for _, count in settings(table.columns)]
    if len(table.columns) <= MOST_COLUMNS:
        counts = [len(table.columns)]
    for end, count in zip(accumulate(counts), counts, strict=True):
        cut = slice(end - count, end)
        lines = tuple(replace(line, entries=line.entries[cut]) for line in table.lines)
        if measured_only:
            lines = tuple(_measured(lines))
        if lines:
            yield replace(table, columns=table.columns[cut], lines=lines)


def _measured(lines: Iterable[Line]) -> Iterator[Line]:
    for _, each in groupby(lines, key=lambda line: (line.model, line.variant)):
        held = [line for line in each if any(entry.text not in (NOT_RUN, NOT_PRINTED) for entry in line.entries)]
        if any(line.what == "measured" for line in held):
            yield from held


def shown(table: Table) -> Iterator[Shown]:
    """The lines of a table."""
    before: Line | None = None
    for line in table.lines:
        opens = before is None or before.model != line.model
        repeated = before is not None and not opens and before.variant == line.variant and line.what != "printed"
        model = line.model if opens else ("",) * len(line.model)
        yield Shown(line, model, "" if repeated else line.variant, opens)
        before = line


def scale_name(scale: str) -> str:
    """What a scale of ``--scale`` measures on."""
    return SCALES.get(scale, scale)


def marks(table: Table) -> str:
    """The letters of the notes on a table: "a, b"."""
    return ", ".join(letter(i) for i in range(len(table.notes)))


def letter(i: int) -> str:
    """a, b, …"""
    return chr(ord("a") + i)


def link(source: Source, folder: Path) -> str:
    """A results file as a link from a page in ``folder``."""
    return quote(os.path.relpath(source.path, folder).replace(os.sep, "/"))


def described(source: Source) -> str:
    """Checkpoint, protocol and data of a results file."""
    checkpoint = f"checkpoint {Path(source.checkpoint).name}" if source.checkpoint else "no checkpoint named"
    digest = f"SHA-256 {source.sha256}" if source.sha256 else "its SHA-256 was not written"
    data = [f"on {scale_name(source.scale)}, not the paper's data"] if source.scale else []
    return "; ".join([f"{checkpoint}, {digest}", *([source.protocol] if source.protocol else []), *data])
