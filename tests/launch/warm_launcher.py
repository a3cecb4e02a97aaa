"""What drives a launcher of any dialect: command lines that run in forks of one process, each with its log."""

from __future__ import annotations

import itertools
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TypeVar

from tests.launch.warm_process import WarmProcess


class WarmLauncher:
    """Runs command lines in ``folder`` from a process that has imported ``modules``; logs go below ``logs``."""

    def __init__(self, modules: Sequence[str], folder: Path, environment: Mapping[str, str], logs: Path) -> None:
        self._logs, self._numbers = logs, itertools.count()
        self._warm = WarmProcess(modules, folder, environment)

    def close(self) -> None:
        """End the process and clear the runs away: hundreds of megabytes of checkpoints."""
        self._warm.close()
        shutil.rmtree(self._logs)

    def log_dir(self) -> Path:
        """A new place for a run."""
        return self._logs / f"run{next(self._numbers)}"

    def running(self) -> int | None:
        """The process id of the run that another thread has begun, if it is there yet."""
        warm = self._warm.pid
        children = Path(f"/proc/{warm}/task/{warm}/children").read_text().split()
        return int(children[0]) if children else None

    def ended(
        self,
        argv: Sequence[str],
        environments: Sequence[dict[str, str]],
        logs: Sequence[str],
        during: Callable[[int], None] | None = None,
    ) -> list[int]:
        """Run ``argv`` once for each of ``environments``, at the same time -> the statuses.

        ``during`` is called with the first process id while they are under way.
        """
        requests = [
            {"argv": [*argv], "log": log, "environment": each} for log, each in zip(logs, environments, strict=True)
        ]
        first, *_ = self._warm.begin(requests)
        if during is not None:
            during(first)
        return self._warm.statuses()


L = TypeVar("L", bound=WarmLauncher)


def lent(launcher: L) -> Iterator[L]:
    """A fixture's launcher, closed when its tests have ended."""
    yield launcher
    launcher.close()
