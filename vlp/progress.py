"""Plain progress lines with the time left, for whatever is counted, and for what can only be waited for."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from types import ModuleType

from vlp.training.launch_variables import is_first_process

# A process that is forked while a line is written would keep the stream's lock for ever.
_WRITING = threading.Lock()
os.register_at_fork(before=_WRITING.acquire, after_in_parent=_WRITING.release, after_in_child=_WRITING.release)


def clock(seconds: float) -> str:
    """75 -> "1:15", 3700 -> "1:01:40"."""
    minutes, rest = divmod(max(round(seconds), 0), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"


class Pace:
    """Says when a line is due: every 4 s at first, then after a tenth of the time so far, at least every 30 s.

    ``every`` is another number of seconds.
    """

    def __init__(self, every: float | None = None) -> None:
        self._every = every
        self._started = self._last = time.monotonic()

    @property
    def elapsed(self) -> float:
        """Seconds since it was made."""
        return time.monotonic() - self._started

    def due(self) -> bool:
        """Whether the last line was long ago; if so, the next one is counted from now."""
        elapsed = self.elapsed
        every = min(max(4.0, elapsed / 10), 30.0) if self._every is None else self._every
        if self._started + elapsed - self._last < every:
            return False
        self._last = self._started + elapsed
        return True


@contextmanager
def waiting(what: str) -> Iterator[None]:
    """Print ``building the model … 0:04`` at the pace of progress lines while the block lasts, from another thread.

    Of the processes of a run, the first one alone does.
    """
    over, show = threading.Event(), is_first_process()

    def tell() -> None:
        pace = Pace()
        while not over.wait(0.5):
            if pace.due():
                with _WRITING:
                    print(f"{what} … {clock(pace.elapsed)}", flush=True)

    thread = threading.Thread(target=tell, daemon=True)
    if show:
        thread.start()
    try:
        yield
    finally:
        over.set()
        if show:
            thread.join()


def import_slowly(module: str) -> ModuleType:
    """``import_module`` of one that loads PyTorch, which takes seconds, and more than ten on a cold disk."""
    with waiting("loading PyTorch, Lightning and transformers"):
        return import_module(module)


class CountProgress:
    """Prints ``retrieval: 120/5000 images · 4.1 images/s · 19:50 left`` at its :class:`Pace` and at the end.

    Args:
        title, unit: of what is counted, in the plural.
        total: how many there are for this process.
        show: print at all.
        ends: also print at the end when no line is due.
    """

    def __init__(self, title: str, unit: str, total: int, show: bool, ends: bool = True) -> None:
        self.title, self.unit, self.total, self.show, self.ends, self.done = title, unit, total, show, ends, 0
        self._pace = Pace()

    def advance(self, count: int = 1) -> None:
        """Count ``count`` more."""
        self.done += count
        if not self.show or not (self._pace.due() or (self.ends and self.done >= self.total)):
            return
        speed = self.done / self._pace.elapsed
        print(
            f"{self.title}: {self.done}/{self.total} {self.unit} · {speed:.3g} {self.unit}/s · "
            f"{clock((self.total - self.done) / speed)} left",
            flush=True,
        )
