"""Real runs of X-VLM's scripts on any device, in half precision."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tests.gpu.yaml_runs import EPIC, short, train_without_waits
from tests.unit.xvlm.small_runs import saved_teacher
from tests.unit.xvlm.task_runs import built, config_of

VARIANTS: dict[str, dict[str, Any]] = {"epic": EPIC, "on_regions": {**EPIC, "on_regions": True}}


def trains_without_waits(script: str, folder: Path, output: Path, device: str, variant: str = "") -> None:
    """Steps of a run on ``write_data``'s ``folder`` that wait for the guard alone and have finite losses."""
    changes = short(output, device)
    if script == "Pretrain":
        changes["regions"] = {"iter_perc": 1.0}  # a step of each stream in turn: both are among the watched ones
    if variant:
        changes |= {"epic": VARIANTS[variant], "teacher_path": saved_teacher(folder)}
    train_without_waits(built(script, config_of(script, folder, **changes)), device)
