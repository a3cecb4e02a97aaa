"""What a conversion wrote and what it left out, on stdout."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

from rich.console import Console
from rich.markup import escape
from rich.table import Table as Grid


class WrittenFile(Protocol):
    """Size of a file: rows, texts in all rows, bytes."""

    @property
    def rows(self) -> int: ...
    @property
    def captions(self) -> int: ...
    @property
    def bytes(self) -> int: ...


def print_written(
    dataset: str,
    folder: str,
    files: Mapping[str, WrittenFile],
    found: Mapping[str, int],
    console: Console,
    heads: tuple[str, str, str] = ("table", "rows", "captions"),
) -> None:
    """Print the files, by name, that the conversion of ``dataset`` wrote, and how much raw data it found."""
    grid = Grid(title=escape(f"{dataset} → {folder}"), title_justify="left")
    for column in (*heads, "MB"):
        grid.add_column(column, justify="left" if column == heads[0] else "right")
    for name, file in files.items():
        grid.add_row(name, f"{file.rows:,}", f"{file.captions:,}", f"{file.bytes / 1e6:,.1f}")
    console.print(grid)
    counts = ", ".join(f"{count:,} {what}" for what, count in found.items())
    console.print(f"{dataset}, found: {counts}", highlight=False, soft_wrap=True)


def print_omissions(
    dataset: str, not_written: Mapping[str, str], skipped: Mapping[str, Mapping[str, Any]], console: Console
) -> None:
    """Print the splits of ``dataset`` that were not written, and what was left out of the others, by reason."""
    for what, why in not_written.items():
        text = escape(f"{what} ({why})")
        console.print(f"[yellow]{dataset}, not written[/]: {text}", highlight=False, soft_wrap=True)
    for reason, entry in skipped.items():
        text = escape(f"{reason}: {entry['count']:,} (e.g. {', '.join(entry['examples'])})")
        console.print(f"[yellow]{dataset}, left out[/]: {text}", highlight=False, soft_wrap=True)
