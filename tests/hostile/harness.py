"""Run a command line as a user does and hold what every row of the table promises against what happened."""

from __future__ import annotations

import hashlib
import itertools
import os
import signal
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from threading import Timer

from tests.hostile.table import Row
from tests.launch.launcher import ENVIRONMENT, Launcher
from tests.launch.warm_process import WarmProcess
from vlp import owner

BOUND = 60.0  # seconds after which a row is a hang
# What is no answer of ours: a traceback, and the advice of libraries, such as to switch their safety off.
FOREIGN = ("Traceback", "weights_only", "add_safe_globals", "errors.pydantic.dev", "huggingface.co/docs", 'File "/')


@dataclass(frozen=True)
class Ended:
    """How a command ended and what it printed; a status below 0 is a signal's, -9 that of a hang."""

    status: int
    output: str


class Shell:
    """Runs commands one after the other, each a fork of a process that has imported ``modules`` once."""

    def __init__(self, folder: Path, modules: Sequence[str]) -> None:
        self.folder, self._numbers = folder, itertools.count()
        self._warm = WarmProcess(modules, folder, ENVIRONMENT)

    def run(self, *argv: str, environment: Mapping[str, str] | None = None) -> Ended:
        """``python argv`` in ``folder``; beyond ``BOUND`` the command and all its processes are killed."""
        log = self.folder.parent / f"{self.folder.name}.{next(self._numbers)}.txt"
        request = {"argv": argv, "log": str(log), "environment": dict(environment or {})}
        (process,) = self._warm.begin([request])
        with killed_after(BOUND, process):
            (status,) = self._warm.statuses()
        return Ended(status, log.read_text(errors="backslashreplace"))

    def close(self) -> None:
        self._warm.close()


@contextmanager
def killed_after(seconds: float, process: int) -> Iterator[None]:
    """Kill a process and its group if the block takes longer."""
    timer = Timer(seconds, kill_group, (process,))
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


def kill_group(process: int) -> None:
    os.killpg(process, signal.SIGKILL)


def digests(folder: Path) -> dict[str, str]:
    """Every file below ``folder`` with the digest of its bytes; other things with what they are."""
    found = {}
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            found[str(path)] = hashlib.blake2b(path.read_bytes()).hexdigest()
        else:
            found[str(path)] = oct(path.lstat().st_mode)
    return found


def keeps_its_promise(row: Row, ended: Ended) -> None:
    """Status and words are the row's, and nothing is said that only a programmer understands."""
    assert ended.status == row.status, ended.output
    for words in row.words:
        assert words in ended.output, ended.output
    for words in FOREIGN:
        assert words not in ended.output, ended.output


@contextmanager
def nothing_changes(folder: Path, but: str = "") -> Iterator[None]:
    """No file or folder below ``folder`` is written, removed or added in the block; ``but`` alone is not looked at."""
    before = digests(folder)
    held = len(owner._held)
    yield
    for each in owner._held[held:]:
        owner._release(each)  # as the end of the program does
    after = digests(folder)
    spared = str(folder / but) if but else ""
    changed = {path for path in before.keys() | after.keys() if before.get(path) != after.get(path)}
    assert not [path for path in changed if not (spared and path.startswith(spared))]


def pretrained(launcher: Launcher, log_dir: Path, *items: str, environment: Mapping[str, str] | None = None) -> Ended:
    """A pre-training command line on the small data set, killed where it hangs; a later item wins."""
    timers: list[Timer] = []

    def begun(process: int, _: Path) -> None:
        timers.append(Timer(BOUND, kill_group, (process,)))
        timers[0].start()

    try:
        line = (*launcher.pretraining, *launcher.items(*items))
        (run,) = launcher.together([dict(environment or {})], *line, check=False, log_dir=log_dir, during=begun)
    finally:
        for timer in timers:
            timer.cancel()
    return Ended(run.status, run.output)
