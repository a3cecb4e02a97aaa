"""What a user sees of a conversion: progress on stderr, and at the end what was written and what was not."""

from __future__ import annotations

import sys
import time
from types import TracebackType
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
from rich.progress import Progress as Bar
from rich.table import Table as Grid

from vlp.data.arrow.manifest import Manifest

_LINE_EVERY_S = 30.0


class Progress:
    """Rows done of ``total``: a bar on a terminal, a plain line every 30 s elsewhere, nothing if ``quiet``."""

    def __init__(self, name: str, total: int, quiet: bool) -> None:
        self.name, self.total, self.done = name, total, 0
        self._start = self._last = time.monotonic()
        self._lines = not quiet and not sys.stderr.isatty()
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
        self._bar = Bar(*columns, console=Console(stderr=True), disable=quiet or self._lines)
        self._task = self._bar.add_task(name, total=total)

    def __enter__(self) -> Progress:
        self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bar.stop()

    def advance(self, rows: int = 1) -> None:
        """Count ``rows`` more rows as done."""
        self.done += rows
        self._bar.advance(self._task, rows)
        now = time.monotonic()
        if self._lines and now - self._last > _LINE_EVERY_S:
            self._last = now
            rate = self.done / (now - self._start)
            left = (self.total - self.done) / rate / 60
            print(f"{self.name}: {self.done}/{self.total} rows, {rate:.0f}/s, {left:.0f} min left", file=sys.stderr)


def stdout_console() -> Console:
    """Return a console for stdout that keeps tables whole when it is no terminal."""
    return Console() if sys.stdout.isatty() else Console(width=120)


def print_summary(manifest: Manifest, folder: str, console: Console) -> None:
    """Print the tables that were written and, by reason, what was left out."""
    grid = Grid(title=f"{manifest.dataset} → {folder}", title_justify="left")
    for column, justify in (("table", "left"), ("rows", "right"), ("captions", "right"), ("MB", "right")):
        grid.add_column(column, justify=justify)  # type: ignore[arg-type]
    for name, record in manifest.tables.items():
        grid.add_row(f"{name}.arrow", f"{record.rows:,}", f"{record.captions:,}", f"{record.bytes / 1e6:,.1f}")
    console.print(grid)
    found = ", ".join(f"{count:,} {what}" for what, count in manifest.found.items())
    console.print(f"{manifest.dataset}, found: {found}", highlight=False, soft_wrap=True)
    print_omissions(manifest, console)


def print_omissions(manifest: Manifest, console: Console) -> None:
    """Print, by reason, what a conversion did not write."""
    for what, why in manifest.not_written.items():
        console.print(f"[yellow]{manifest.dataset}, not written[/]: {what} ({why})", highlight=False, soft_wrap=True)
    for reason, entry in all_skips(manifest).items():
        text = f"{reason}: {entry['count']:,} (e.g. {', '.join(entry['examples'])})"
        console.print(f"[yellow]{manifest.dataset}, left out[/]: {text}", highlight=False, soft_wrap=True)


def all_skips(manifest: Manifest) -> dict[str, dict[str, Any]]:
    """Merge what was left out while planning and while writing each table: reason -> count and examples."""
    merged: dict[str, dict[str, Any]] = {}
    for skipped in (manifest.skipped, *(record.skipped for record in manifest.tables.values())):
        for reason, entry in skipped.items():
            total = merged.setdefault(reason, {"count": 0, "examples": []})
            total["count"] += entry["count"]
            total["examples"] = (total["examples"] + entry["examples"])[:5]
    return merged
