"""Runs of the real launcher on as many devices as are asked for."""

from __future__ import annotations

import math
from pathlib import Path

from tests.launch.launcher import Launcher, Result


def pretrained(launcher: Launcher, devices: int, *items: str) -> Result:
    """Pre-training in a process of its own, 8 pairs of a device in a step."""
    shape = (f"num_gpus={devices}", f"batch_size={8 * devices}")
    return launcher.cold(*launcher.pretraining, *launcher.items(*shape, *items))


def trains(launcher: Launcher, devices: int, *items: str) -> Result:
    """Three steps, in all of which the losses are finite."""
    run = pretrained(launcher, devices, *items)
    losses = [v for line in run.metrics for tag, v in line.items() if tag.endswith("/loss")]
    assert losses and all(map(math.isfinite, losses)), run.output
    return run


def resumes(launcher: Launcher, devices: int, teacher: Path) -> None:
    """EPIC with dropout, cut after two steps: it goes on with the unbroken run's numbers, bit by bit."""
    items = ("epic", f"teacher_path={teacher}", "deterministic=True", "drop_rate=0.1", "end_lr=0.000999999999999999")
    whole = pretrained(launcher, devices, *items, "max_steps=4")
    half = pretrained(launcher, devices, *items, "max_steps=2")
    rest = pretrained(launcher, devices, *items, "max_steps=4", f"resume_from={half.checkpoint}")
    ours, theirs = ([line for line in run.metrics if line["step"] >= 2] for run in (rest, whole))
    assert ours and ours == theirs
