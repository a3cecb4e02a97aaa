"""The report as a LaTeX document of booktabs tables, for any engine; nothing but ASCII is written."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import accumulate
from pathlib import Path

from reproduce.report.columns import settings
from reproduce.report.pages import NOTHING, TITLE, Report, described, letter, link, marks, shown
from reproduce.report.tables import Entry, Table

_PREAMBLE = r"""\documentclass[a4paper]{article}
\usepackage[T1]{fontenc}
\usepackage[margin=12mm]{geometry}
\usepackage{booktabs}
\usepackage{longtable}
\usepackage[hidelinks]{hyperref}
\setlength{\tabcolsep}{3pt}
\setlength{\parindent}{0pt}
\begin{document}
\footnotesize"""
_ESCAPES = {
    **{each: f"\\{each}" for each in "&%$#_{}"},
    **{"\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}"},
    **{"<": r"\textless{}", ">": r"\textgreater{}", "|": r"\textbar{}", '"': r"\textquotedbl{}"},
    **{"[": "{[}", "]": "{]}", "–": "--", "−": "$-$", "×": r"$\times$", "…": r"\dots{}"},
}


def latex(report: Report, folder: Path) -> str:
    """The document, to stand in ``folder``."""
    return "\n".join(_document(report, folder)) + "\n"


def escaped(text: str) -> str:
    """Plain text, on one line; a character that has no escape becomes a question mark."""
    return "".join(
        _ESCAPES.get(each, each if each.isascii() and each.isprintable() else "?") for each in " ".join(text.split())
    )


def _document(report: Report, folder: Path) -> Iterator[str]:
    yield _PREAMBLE
    yield rf"\section*{{{escaped(TITLE)}}}"
    yield escaped(report.legend)
    if report.warning:
        yield ""
        yield rf"\textbf{{{escaped(report.warning)}}}"
    for table in report.tables:
        yield from _table(table, report, folder)
    yield from _list("On the paper's text", report.notes)
    yield from _list("Results that are not shown", report.problems)
    yield r"\end{document}"


def _list(title: str, lines: tuple[str, ...]) -> Iterator[str]:
    if lines:
        yield rf"\subsection*{{{escaped(title)}}}"
        yield r"\begin{itemize}"
        yield from (rf"\item {escaped(line)}" for line in lines)
        yield r"\end{itemize}"


def _table(table: Table, report: Report, folder: Path) -> Iterator[str]:
    yield rf"\subsection*{{{escaped(table.title)}{_raised(marks(table))}}}"
    yield escaped(f"Split: {table.split}.")
    parts = report.parts(table)
    yield from () if parts else (NOTHING,)
    for part in parts:
        yield from _part(part, folder)
    for i, note in enumerate(table.notes):
        yield rf"{_raised(letter(i))} {escaped(note)}\par"
    for source in table.sources:
        href = _href(link(source, folder), escaped(source.stage))
        yield rf"{_raised(source.number)} {href}: {escaped(described(source))}\par"


def _part(table: Table, folder: Path) -> Iterator[str]:
    names = len(table.heads) + 2
    yield r"\begingroup\scriptsize"
    yield rf"\begin{{longtable}}{{*{{{names}}}{{l}}*{{{len(table.columns)}}}{{r}}}}"
    yield r"\toprule"
    yield from _head(table, names)
    for each in shown(table):
        if each.opens:
            yield r"\midrule"
        entries = [_entry(entry, folder) for entry in each.line.entries]
        yield _row([*map(escaped, each.model), escaped(each.variant), each.line.what, *entries])
    yield r"\bottomrule"
    yield r"\end{longtable}"
    yield r"\endgroup"


def _head(table: Table, names: int) -> Iterator[str]:
    spans = settings(table.columns)
    starts = accumulate((count for _, count in spans), initial=names + 1)
    yield _row([""] * names + [rf"\multicolumn{{{count}}}{{c}}{{{escaped(name)}}}" for name, count in spans])
    yield " ".join(
        rf"\cmidrule(lr){{{start}-{start + count - 1}}}" for start, (_, count) in zip(starts, spans, strict=False)
    )
    yield _row([*table.heads, "", "", *(escaped(each.name) for each in table.columns)])
    yield r"\endhead"


def _entry(entry: Entry, folder: Path) -> str:
    if entry.source is None:
        return escaped(entry.text)
    return _href(link(entry.source, folder), escaped(entry.text)) + _raised(entry.source.number)


def _href(address: str, text: str) -> str:
    return rf"\href{{{address.replace('%', chr(92) + '%').replace('_', chr(92) + '_')}}}{{{text}}}"


def _raised(mark: str | int) -> str:
    return rf"\textsuperscript{{{mark}}}" if mark else ""


def _row(cells: list[str]) -> str:
    return " & ".join(cells) + r" \\"
