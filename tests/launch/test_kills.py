"""Runs that are killed again and again, at moments drawn by chance, against the run that nothing has broken."""

from __future__ import annotations

import os
import random
import signal
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.launch.launcher import Launcher, Result
from tests.launch.test_resume import ITEMS, TWO, lines, same_end

VARIANTS = ("vanilla", "epic")


class Case(NamedTuple):
    """A baseline without or with EPIC, on one process or two, and a seed of the draws."""

    baseline: str
    variant: str
    processes: int
    seed: int


DEFAULT = (Case("meter", "epic", 1, 0),)
SLOW = [
    Case(baseline, variant, processes, seed)
    for baseline in ("meter", "vilt")
    for variant in VARIANTS
    for processes, seeds in ((1, 6), (2, 3))
    for seed in range(seeds)
]
CASES = [*DEFAULT, *(pytest.param(case, marks=pytest.mark.slow) for case in SLOW if case not in DEFAULT)]


@pytest.fixture(scope="session")
def whole(launchers: Callable[[str], Launcher]) -> Callable[[Case], Result]:
    """The run that nothing breaks."""
    runs: dict[Case, Result] = {}

    def run(case: Case) -> Result:
        key = case._replace(seed=0)
        if key not in runs:
            runs[key] = launchers(case.baseline).pretrain(*command(case, launchers(case.baseline)))
        return runs[key]

    return run


def command(case: Case, launcher: Launcher) -> tuple[str, ...]:
    """Two epochs of four steps and a validation in each one's middle and at its end."""
    variant = launcher.teacher if case.variant == "epic" else ()
    return (*ITEMS, "max_steps=8", "warmup_steps=9", *variant, *(TWO if case.processes == 2 else ()))


def at_random(draw: random.Random, expected: int) -> Callable[[int, Path], None]:
    """SIGKILL to all of a run's processes after some of its ``expected`` lines of metrics: a bit later or in a save.

    That can be in a validation, at an epoch's end, or when the run has ended by itself.
    """
    after, in_a_save, pause = draw.randrange(expected), draw.random() < 0.4, draw.random() / 3

    def during(process: int, log_dir: Path) -> None:
        known = len(list(log_dir.glob("*/version_*")))

        def newest() -> Path | None:
            versions = sorted(log_dir.glob("*/version_*"), key=lambda path: int(path.name.split("_")[1]))
            return versions[-1] if len(versions) > known else None

        def due() -> bool:
            version = newest()
            return version is not None and logged(version) > after

        def saving() -> bool:
            version = newest()
            return version is not None and any((version / "checkpoints").glob(".*.tmp"))

        wait(process, due)
        if in_a_save:
            wait(process, saving)
        else:
            time.sleep(pause)
        with suppress(ProcessLookupError):
            os.killpg(process, signal.SIGKILL)

    return during


def logged(version: Path) -> int:
    path = version / "metrics.jsonl"
    return path.read_bytes().count(b"\n") if path.exists() else 0


def wait(process: int, happened: Callable[[], bool]) -> None:
    """Until it has, or the process has ended."""
    with suppress(ProcessLookupError):
        while not happened():
            os.kill(process, 0)
            time.sleep(0.001)


@pytest.mark.parametrize("case", CASES, ids=lambda case: "-".join(map(str, case)))
def test_killed_again_and_again(
    case: Case, launchers: Callable[[str], Launcher], whole: Callable[[Case], Result]
) -> None:
    """All parts log what the whole run logs, without a gap between them, and the last one ends in the same state."""
    launcher, draw = launchers(case.baseline), random.Random(f"{case}")
    expected, log_dir = lines(whole(case)), launcher.log_dir()
    covered, kills = 0, draw.randint(2, 4)
    for number in range(kills + 1):
        free = (f"num_workers={draw.choice([0, 2])}", f"save_every_n_steps={draw.choice([0, 1, 1, 2])}")
        moment = at_random(draw, max(len(expected) - covered, 1)) if number < kills else None
        options = {"log_dir": log_dir, "check": moment is None, "during": moment}
        run = launcher.pretrain(*command(case, launcher), *free, "resume_from=auto", **options)
        if "this run is complete" in run.output:
            assert run.status == 0
            break
        assert run.status in (0, -signal.SIGKILL), run.output
        part = lines(run) if list(log_dir.glob(f"*/version_{run.version}/metrics.jsonl")) else []
        start = expected.index(part[0]) if part else covered
        assert start <= covered and part == expected[start : start + len(part)]
        covered = max(covered, start + len(part))
    assert covered == len(expected)
    versions = len(list(log_dir.glob("*/version_*")))
    same_end(Result(0, "", log_dir, versions - 1), whole(case))
