"""Plain progress lines with the time left, for whatever is counted."""

from __future__ import annotations

import time


def clock(seconds: float) -> str:
    """75 -> "1:15", 3700 -> "1:01:40"."""
    minutes, rest = divmod(max(round(seconds), 0), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"


class CountProgress:
    """Prints ``retrieval: 120/5000 images · 4.1 images/s · 19:50 left`` every 10 s and at the end.

    Args:
        title, unit: of what is counted, in the plural.
        total: how many there are for this process.
        show: print at all.
    """

    def __init__(self, title: str, unit: str, total: int, show: bool) -> None:
        self.title, self.unit, self.total, self.show, self.done = title, unit, total, show, 0
        self._started = self._shown = time.monotonic()

    def advance(self, count: int = 1) -> None:
        """Count ``count`` more."""
        self.done += count
        now = time.monotonic()
        if not self.show or (now - self._shown < 10 and self.done < self.total):
            return
        self._shown = now
        speed = self.done / (now - self._started)
        print(
            f"{self.title}: {self.done}/{self.total} {self.unit} · {speed:.3g} {self.unit}/s · "
            f"{clock((self.total - self.done) / speed)} left",
            flush=True,
        )
