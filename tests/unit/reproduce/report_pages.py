"""Reads the tables of a report back from each format, for tests: what a reader sees in every line."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from typing import NamedTuple

LINKED_MD = re.compile(r"\[([^\]]*)\]\(([^)]*)\)<sup>(\d+)</sup>")
LINKED_TEX = re.compile(r"\\href\{((?:[^{}]|\\.)*)\}\{([^{}]*)\}\\textsuperscript\{(\d+)\}")


class Cell(NamedTuple):
    """Text, and where it is measured the address of its results file."""

    text: str
    address: str = ""


class Row(NamedTuple):
    """A line: "printed", "measured" or "difference", of a model or of its gain; names that are left out are filled."""

    table: int
    model: tuple[str, ...]
    variant: str
    what: str
    cells: tuple[Cell, ...]


def of_markdown(text: str) -> list[Row]:
    rows: list[list[str]] = []
    tables: list[int] = []
    table = 0
    for line in text.splitlines():
        if found := re.match(r"## Table (\d)", line):
            table = int(found[1])
        elif line.startswith("| ") and not line.startswith("| ---"):
            rows.append([cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]])
            tables.append(table)
    cells = [[_linked(LINKED_MD, cell, 1, 2) for cell in row] for row in rows]
    return _rows(tables, cells, [_is_head(row) for row in rows])


def of_latex(text: str) -> list[Row]:
    tables, cells, heads, table = list[int](), list[list[Cell]](), list[bool](), 0
    for line in text.splitlines():
        if found := re.match(r"\\subsection\*\{Table (\d)", line):
            table = int(found[1])
        elif line.endswith(r" \\"):
            tables.append(table)
            parts = re.split(r"(?<!\\)&", line.removesuffix(r" \\"))
            cells.append([_linked(LINKED_TEX, _plain(part.strip()), 2, 1) for part in parts])
            heads.append(r"\multicolumn" in line or _is_head(parts))
    return _rows(tables, cells, heads)


def _is_head(row: list[str]) -> bool:
    return any("R@" in cell or "test-dev" in cell or re.search(r"\b(dev|test)$", cell) for cell in row)


def _plain(text: str) -> str:
    return text.replace("$-$", "−").replace("--", "–") if "href" not in text else text.replace("$-$", "−")


def _linked(pattern: re.Pattern[str], cell: str, text: int, address: int) -> Cell:
    found = pattern.fullmatch(cell)
    return Cell(found[text], found[address]) if found else Cell(cell)


class _Page(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.table, self.rows, self.heads = 0, list[tuple[int, list[Cell]]](), list[bool]()
        self.ids: list[tuple[str, str]] = []  # (class of the line, data-cell)
        self.open: list[str] = []
        self.outside: list[str] = []
        self._cell: list[str] | None = None
        self._address, self._class, self._in_sup, self._head = "", "", False, False

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = {name: value or "" for name, value in attrs}
        if tag not in ("meta", "br", "link", "img"):
            self.open.append(tag)
        self.outside += [value for name, value in given.items() if name == "src" or "//" in value]
        if tag in ("link", "script", "img"):
            self.outside.append(tag)
        if tag == "h2" and given.get("id", "").startswith("table"):
            self.table = int(given["id"].removeprefix("table"))
        elif tag == "thead":
            self._head = True
        elif tag == "tr":
            self._class = given.get("class", "")
            self.rows.append((self.table, []))
            self.heads.append(self._head)
        elif tag in ("td", "th"):
            self._cell, self._address = [], ""
            if "data-cell" in given:
                self.ids.append((self._class.split()[0], given["data-cell"]))
        elif tag == "a" and self._cell is not None:
            self._address = given["href"]
        elif tag == "sup":
            self._in_sup = True

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag
        if tag == "sup":
            self._in_sup = False
        elif tag == "thead":
            self._head = False
        elif tag in ("td", "th") and self._cell is not None:
            self.rows[-1][1].append(Cell("".join(self._cell).strip(), self._address))
            self._cell = None

    def handle_data(self, data: str) -> None:
        if self._cell is not None and not self._in_sup:
            self._cell.append(data)


def page(text: str) -> _Page:
    """A page that is parsed to its end; tags must nest."""
    parsed = _Page()
    parsed.feed(text)
    parsed.close()
    assert not parsed.open
    return parsed


def of_html(text: str) -> list[Row]:
    parsed = page(text)
    return _rows([table for table, _ in parsed.rows], [cells for _, cells in parsed.rows], parsed.heads)


READERS = {"md": of_markdown, "html": of_html, "latex": of_latex}


def _rows(tables: list[int], cells: list[list[Cell]], heads: list[bool]) -> list[Row]:
    """The lines; parts of a table, each below a head of its own, are put side by side."""
    found: list[Row] = []
    place = 0  # in found, of the next line of a part
    for table, row, head in zip(tables, cells, heads, strict=True):
        if head:
            place = next((i for i, each in enumerate(found) if each.table == table), len(found))
            continue
        names = 0 if table > 3 else 2
        before = found[place - 1] if place and found[place - 1].table == table else None
        model = tuple(cell.text for cell in row[:names])
        variant, what = row[names].text, row[names + 1].text
        if before is not None and not any(model):
            model = before.model
        if before is not None and not variant:
            variant = before.variant
        made = Row(table, model, variant, what, tuple(row[names + 2 :]))
        if place == len(found):
            found.append(made)
        else:
            assert found[place][:4] == made[:4]
            found[place] = made._replace(cells=found[place].cells + made.cells)
        place += 1
    return found
