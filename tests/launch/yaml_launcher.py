"""Drive the scripts of a baseline with YAML files as a user does."""

from __future__ import annotations

import json
import subprocess
import sys
from abc import abstractmethod
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch

from tests.launch.launcher import ENVIRONMENT, ROOT, Result, address, checked
from tests.launch.warm_launcher import WarmLauncher


class Run(Result):
    """A run of a script, whose ``--output_dir`` is its folder."""

    @property
    def directory(self) -> Path:
        return self.log_dir

    def official(self, name: str) -> dict[str, Any]:
        """An official checkpoint."""
        return torch.load(self.directory / name, weights_only=True)

    @property
    def log(self) -> list[dict[str, Any]]:
        """The lines of log.txt that stand for an epoch."""
        lines = (self.directory / "log.txt").read_text().splitlines()
        return [json.loads(line) for line in lines if line.startswith("{")]

    @property
    def results(self) -> dict[str, Any]:
        return json.loads((self.directory / "results.json").read_text())


class YamlLauncher(WarmLauncher):
    """Runs command lines of the scripts of the baseline ``name``; ``cold`` ones in a fresh Python."""

    def __init__(self, name: str, logs: Path) -> None:
        self.name = name
        modules = (f"{name}.baseline", "vlp.yaml_dialect.run", "torch.utils.tensorboard")
        super().__init__(modules, ROOT / name, ENVIRONMENT, logs)

    @abstractmethod
    def arguments(self, script: str, output: Path, *items: str) -> list[str]:
        """The command line of a script; flags and keys of ``items`` come last, and a later key wins."""

    def run(
        self,
        script: str,
        *items: str,
        output: Path | None = None,
        check: bool = True,
        during: Callable[[int, Path], None] | None = None,
    ) -> Run:
        """Run a script, from the warm process; ``during`` is called with the process id and the ``--output_dir``."""
        return self.together([{}], script, *items, output=output, check=check, during=during)[0]

    def on_two_processes(self, script: str, *items: str, **options: Any) -> list[Run]:
        """Two processes with the variables that torchrun gives them."""
        meet = {**address(), "WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2"}
        return self.together(
            [{**meet, "RANK": str(r), "LOCAL_RANK": str(r)} for r in range(2)], script, *items, **options
        )

    def together(
        self,
        environments: Sequence[dict[str, str]],
        script: str,
        *items: str,
        output: Path | None = None,
        check: bool = True,
        during: Callable[[int, Path], None] | None = None,
    ) -> list[Run]:
        output = output or self.log_dir()
        logs = [f"{output}.{i}.txt" for i in range(len(environments))]
        argv = self.arguments(script, output, *items)
        statuses = self.ended(argv, environments, logs, during and (lambda process: during(process, output)))
        runs = [Run(status, Path(log).read_text(), output) for status, log in zip(statuses, logs, strict=True)]
        return [_checked(run, check) for run in runs]

    def cold(self, script: str, *items: str, root: Path = ROOT, torchrun: Sequence[str] = ()) -> Run:
        """``python <script>.py``, or torchrun with its own options, in the repository under ``root``."""
        output = self.log_dir()
        launcher = ("-m", "torch.distributed.run", *torchrun) if torchrun else ()
        done = subprocess.run(
            [sys.executable, *launcher, *self.arguments(script, output, *items)],
            cwd=root / self.name,
            env={**ENVIRONMENT, "PYTHONPATH": str(root)},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=600,
        )
        return _checked(Run(done.returncode, done.stdout, output), True)


def _checked(run: Run, check: bool) -> Run:
    checked(run, check)
    return run


def last_of(items: Sequence[str]) -> list[str]:
    """Of several values of a key the last one, as a command line may give a key once; flags stay as they are."""
    last = {item.split("=")[0]: item for item in items if "=" in item}
    return [*last.values(), *(item for item in items if "=" not in item)]
