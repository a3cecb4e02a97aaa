"""Stages of a few milliseconds, in place of trainings: each writes files, waits, fails or saves and ends with 75."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from reproduce.experiments import Experiments, Places, Stage

WRITE = "import pathlib, sys; pathlib.Path(sys.argv[1]).open('a').write('x')"


def stage(
    name: str, code: str = WRITE, after: Iterable[str] = (), gpus: int = 0, checkpoint: str = "model.pt"
) -> Stage:
    """A stage of the repository whose code gets the path of its checkpoint."""
    command = ("python", "-c", code, "{output}/" + (checkpoint or "nothing"))
    return Stage(name, "pretrain", "", command, tuple(after), gpus=gpus, checkpoint=checkpoint)


def experiments(*stages: Stage) -> Experiments:
    return Experiments({each.name: each for each in stages}, {}, {})


def places(folder: Path) -> Places:
    return Places(folder / "data", folder / "runs")
