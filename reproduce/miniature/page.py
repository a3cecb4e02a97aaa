"""A page of sections, tables and figures: as Markdown, and as one HTML file that loads nothing."""

from __future__ import annotations

import base64
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import quote

from matplotlib.figure import Figure

from reproduce.report.html import environment
from reproduce.report.markdown import escaped, row
from vlp.files import regular


@dataclass(frozen=True)
class Text:
    """A paragraph; ``warns`` sets it apart."""

    text: str
    warns: bool = False


@dataclass(frozen=True)
class Bullets:
    """A list."""

    lines: Sequence[str]


@dataclass(frozen=True)
class Table:
    """Lines of as many cells as ``head`` has; an empty cell was not measured.

    Attributes:
        names: how many columns from the left hold words; the others hold numbers.
    """

    head: Sequence[str]
    lines: Sequence[Sequence[str]]
    names: int = 1


@dataclass(frozen=True)
class Picture:
    """A figure, drawn when the page is written.

    Attributes:
        name: of its files, without suffix.
    """

    name: str
    caption: str
    draw: Callable[[], Figure]


Block = Text | Bullets | Table | Picture


@dataclass(frozen=True)
class Section:
    """Blocks under a heading."""

    title: str
    blocks: Sequence[Block]


@dataclass(frozen=True)
class Page:
    """A title and sections."""

    title: str
    sections: Sequence[Section] = field(default_factory=tuple)

    @property
    def pictures(self) -> list[Picture]:
        """All, in order."""
        return [block for section in self.sections for block in section.blocks if isinstance(block, Picture)]


def markdown(page: Page, files: Mapping[str, Path], folder: Path) -> str:
    """The page, to stand in ``folder``; ``files`` has each picture's PNG by name, linked to the PDF beside it."""
    lines = [f"# {escaped(page.title)}"]
    for section in page.sections:
        lines += ["", f"## {escaped(section.title)}"]
        for block in section.blocks:
            lines += ["", *_markdown(block, files, folder)]
    return "\n".join(lines) + "\n"


def markdown_table(table: Table) -> list[str]:
    """Its lines."""
    ruler = ["---"] * table.names + ["---:"] * (len(table.head) - table.names)
    return [row(map(escaped, table.head)), row(ruler), *(row(map(escaped, line)) for line in table.lines)]


def html(page: Page, files: Mapping[str, Path]) -> str:
    """The page with its pictures in it."""
    template = environment(kind=lambda block: type(block).__name__, data=lambda name: _data(files[name])).get_template(
        "miniature.html"
    )
    return template.render(page=page)


def _markdown(block: Block, files: Mapping[str, Path], folder: Path) -> Iterator[str]:
    if isinstance(block, Text):
        yield f"**{escaped(block.text)}**" if block.warns else escaped(block.text)
    elif isinstance(block, Bullets):
        yield from (f"* {escaped(line)}" for line in block.lines)
    elif isinstance(block, Table):
        yield from markdown_table(block)
    else:
        png = quote(os.path.relpath(files[block.name], folder).replace(os.sep, "/"))
        yield f"[![{escaped(block.caption)}]({png})]({png.removesuffix('.png')}.pdf)"
        yield ""
        yield escaped(block.caption)


def _data(path: Path) -> str:
    return f"data:image/png;base64,{base64.b64encode(regular(path).read_bytes()).decode()}"
