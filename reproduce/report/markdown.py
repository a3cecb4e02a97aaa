"""The report as Markdown, as GitHub reads it."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from pathlib import Path

from reproduce.report.columns import settings
from reproduce.report.pages import NOTHING, TITLE, Report, described, letter, link, marks, shown
from reproduce.report.tables import Entry, Table

_SPECIAL = re.compile(r"([\\`*_\[\]<>|&#~])")


def markdown(report: Report, folder: Path) -> str:
    """The page, to stand in ``folder``."""
    return "\n".join(_page(report, folder)) + "\n"


def escaped(text: str) -> str:
    """Plain text, on one line."""
    return _SPECIAL.sub(r"\\\1", " ".join(text.split()))


def row(cells: Iterable[str]) -> str:
    """A table's line; the cells are Markdown already."""
    return f"| {' | '.join(cells)} |"


def _page(report: Report, folder: Path) -> Iterator[str]:
    yield from (f"# {TITLE}", "", escaped(report.legend))
    if report.warning:
        yield from ("", f"**{escaped(report.warning)}**")
    for table in report.tables:
        yield from ("", *_table(table, report, folder))
    if report.notes:
        yield from ("", "## On the paper's text", "", *(f"* {escaped(note)}" for note in report.notes))
    if report.problems:
        yield from ("", "## Results that are not shown", "", *(f"* {escaped(problem)}" for problem in report.problems))


def _table(table: Table, report: Report, folder: Path) -> Iterator[str]:
    yield f"## {escaped(table.title)}{_raised(marks(table))}"
    yield from ("", escaped(f"Split: {table.split}."))
    parts = report.parts(table)
    yield from () if parts else ("", NOTHING)
    for part in parts:
        yield from ("", *_part(part, folder))
    if table.notes or table.sources:
        yield ""
    yield from (f"* {_raised(letter(i))} {escaped(note)}" for i, note in enumerate(table.notes))
    for source in table.sources:
        file = f"[{escaped(source.stage)}]({link(source, folder)})"
        yield f"* {_raised(source.number)} {file}: {escaped(described(source))}"


def _part(table: Table, folder: Path) -> Iterator[str]:
    over = [setting for setting, _ in settings(table.columns)]
    if len(over) == 1:
        yield from (f"**{escaped(over[0])}**", "")
    columns = [f"{escaped(each.setting)}<br>" * (len(over) > 1) + escaped(each.name) for each in table.columns]
    yield row([*table.heads, "", "", *columns])
    yield row([*["---"] * (len(table.heads) + 2), *["---:"] * len(columns)])
    for each in shown(table):
        entries = [_entry(entry, folder) for entry in each.line.entries]
        yield row([*map(escaped, each.model), escaped(each.variant), each.line.what, *entries])


def _entry(entry: Entry, folder: Path) -> str:
    if entry.source is None:
        return entry.text
    return f"[{entry.text}]({link(entry.source, folder)}){_raised(entry.source.number)}"


def _raised(mark: str | int) -> str:
    return f"<sup>{mark}</sup>" if mark else ""
