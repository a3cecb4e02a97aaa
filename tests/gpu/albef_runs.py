"""Real runs of ALBEF's scripts on any device, in half precision."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

from tests.gpu.waits import WARM_UP, NoWaitsBesideTheGuard
from tests.unit.albef.small_runs import saved_teacher
from tests.unit.albef.task_runs import built, config_of

WATCHED = 2  # steps
EPIC: dict[str, Any] = {"enabled": True, "append_sep": True}
VARIANTS: dict[str, dict[str, Any]] = {"epic": EPIC, "momentum": {**EPIC, "teacher": "momentum"}}


def trains_without_waits(script: str, folder: Path, output: Path, device: str, variant: str = "") -> None:
    """Steps of a run on ``write_data``'s ``folder`` that wait for the guard alone and have finite losses."""
    changes: dict[str, Any] = {"device": device, "precision": "bf16", "output_dir": str(output), "num_workers": 1}
    changes |= {"max_steps": WARM_UP + WATCHED, "log_every_n_steps": 1000}
    if variant:
        changes["epic"] = VARIANTS[variant]
    if variant == "epic":
        changes["teacher_path"] = saved_teacher(folder)
    run, waits = built(script, config_of(script, folder, **changes)).run, NoWaitsBesideTheGuard()
    run.trainer.callbacks.append(waits)  # type: ignore[attr-defined]
    run.trainer.fit(run.model, datamodule=run.datamodule)
    assert run.trainer.strategy.root_device.type == device
    assert run.trainer.global_step == WARM_UP + WATCHED and waits.watched == WATCHED
    losses: Any = run.model.step_losses
    assert losses and all(math.isfinite(float(loss)) for loss in losses.values())
