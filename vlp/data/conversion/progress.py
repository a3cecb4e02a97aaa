"""How far a conversion is, on stderr."""

from __future__ import annotations

import sys
from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
from rich.progress import Progress as Bar

from vlp.progress import Pace


class Progress:
    """Rows done of ``total``: a bar on a terminal, plain lines at their :class:`Pace` elsewhere, nothing if ``quiet``.

    ``unit`` is what is counted if not rows.
    """

    def __init__(self, name: str, total: int, quiet: bool, unit: str = "rows") -> None:
        self.name, self.total, self.unit, self.done = name, total, unit, 0
        self._pace = Pace()
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
        """Count ``rows`` more rows (or ``unit``) as done."""
        self.done += rows
        self._bar.advance(self._task, rows)
        if self._lines and self._pace.due():
            rate = self.done / self._pace.elapsed
            left = (self.total - self.done) / rate / 60
            done = f"{self.done}/{self.total} {self.unit}"
            print(f"{self.name}: {done}, {rate:.0f}/s, {left:.0f} min left", file=sys.stderr)
