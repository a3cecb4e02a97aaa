"""Drive the scripts of a baseline with YAML files as a user does."""

from __future__ import annotations

import json
import math
import re
import subprocess
import sys
from abc import abstractmethod
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.launch.launcher import ENVIRONMENT, ROOT, Result, address, checked
from tests.launch.warm_launcher import WarmLauncher
from vlp.checkpoint.weights import sha256_of_file


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


def ended_in_a_line(run: Run, message: str, status: int = 1) -> None:
    """Whether the last line of a run that ended with ``status`` is an error that says ``message``."""
    assert run.status == status and "Traceback" not in run.output, run.output
    last = run.output.splitlines()[-1]
    assert last.startswith("error: ") and message in last, run.output


def refused(run: Run, message: str, status: int = 1) -> None:
    """The same of a run that has left nothing behind."""
    ended_in_a_line(run, message, status)
    assert not run.directory.exists() or not list(run.directory.iterdir())


def check_means(run: Run, meters: Iterable[str], rounding: float) -> None:
    """Whether the one epoch of a run logged each meter's mean, to ``rounding``, over steps of finite values."""
    (line,) = run.log
    for meter in meters:
        values = run.values(f"train/{meter}")
        assert len(values) > 1 and all(map(math.isfinite, values))
        assert float(line[f"train_{meter}"]) == pytest.approx(sum(values) / len(values), abs=rounding)


def check_scored_again(evaluation: Run, training: Run, checkpoint: Path, metrics: Iterable[str]) -> None:
    """Whether ``--evaluate`` gives a checkpoint the scores that its training gave it, and leaves nothing more."""
    ours, theirs = evaluation.results, training.results
    assert ours["metrics"] == pytest.approx(theirs["metrics"]) and ours["baseline"] == theirs["baseline"]
    assert ours["checkpoint_sha256"] == theirs["checkpoint_sha256"] == sha256_of_file(checkpoint)
    (line,) = evaluation.log
    assert not any(name.startswith("train_") for name in line)
    said = {name: float(line[name]) for name in metrics}
    assert said == pytest.approx({name: ours["metrics"][name] for name in said}, abs=6e-5)
    assert re.search(r"^ split +\S", evaluation.output, re.MULTILINE), evaluation.output
    assert not [*evaluation.directory.glob("*.pth"), *evaluation.directory.glob("*.th")]


def _checked(run: Run, check: bool) -> Run:
    checked(run, check)
    return run
