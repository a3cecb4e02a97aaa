"""A step counter with the time left: a bar in a terminal, lines with growing pauses, of 4 to 30 s, in a log file."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from torch import Tensor


class StepProgress:
    """Counts to ``total``; made by :func:`steps_with_time_left`."""

    def __init__(self, title: str, total: int, bar: Progress) -> None:
        self.title, self.total, self.bar, self.done = title, total, bar, 0
        self.started = self.said = time.monotonic()
        self.task = bar.add_task(title, total=total, loss="")

    def advance(self, loss: Tensor) -> None:
        """One step done; the loss, a scalar tensor, is read only when shown, since reading waits for the device."""
        self.done += 1
        self.bar.update(self.task, advance=1)
        now = time.monotonic()
        if now - self.said < min(max(4, (now - self.started) / 10), 30) and self.done != self.total:
            return
        self.said = now
        self.bar.update(self.task, loss=f"loss {float(loss):.3f}")
        if not self.bar.console.is_terminal:
            left = (now - self.started) / self.done * (self.total - self.done)
            print(f"{self.title}: {self.done}/{self.total}, loss {float(loss):.3f}, {left:.0f} s left", flush=True)


@contextmanager
def steps_with_time_left(title: str, total: int) -> Iterator[StepProgress]:
    """Show the progress of ``total`` steps while the block runs."""
    console = Console()
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[loss]}"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console, disable=not console.is_terminal) as bar:
        yield StepProgress(title, total, bar)
