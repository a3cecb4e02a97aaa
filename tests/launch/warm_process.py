"""Starts ``tests.launch.warm``, which runs commands in forks of a process that has imported what they need."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any


class WarmProcess:
    """A process that has imported ``modules``; its commands run in ``folder``."""

    def __init__(self, modules: Sequence[str], folder: Path, environment: Mapping[str, str]) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.launch.warm", *modules],
            cwd=folder,
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        self.pid = self._process.pid
        assert self._line() == "ready\n"

    def begin(self, requests: Sequence[Mapping[str, Any]]) -> list[int]:
        """Run ``requests`` at the same time; their process ids."""
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(requests) + "\n")
        self._process.stdin.flush()
        return [int(number) for number in self._line().split()]

    def statuses(self) -> list[int]:
        """Wait until all that were begun have ended."""
        return [int(number) for number in self._line().split()]

    def close(self) -> None:
        assert self._process.stdin is not None
        # Not only by closing: a loader's worker that was forked meanwhile holds the pipe open, too.
        self._process.stdin.write("end\n")
        self._process.stdin.close()
        self._process.wait(timeout=60)

    def _line(self) -> str:
        assert self._process.stdout is not None
        return self._process.stdout.readline()
