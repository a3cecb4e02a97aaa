"""Real runs of the scripts of a baseline with YAML files on any device, in half precision."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

from tests.gpu.waits import WARM_UP, NoWaitsBesideTheGuard
from vlp.yaml_dialect.run import Built

WATCHED = 2  # steps
EPIC: dict[str, Any] = {"enabled": True}


def short(output: Path, device: str) -> dict[str, Any]:
    """The keys of a run whose last steps are watched."""
    changes: dict[str, Any] = {"device": device, "precision": "bf16", "output_dir": str(output), "num_workers": 1}
    return {**changes, "max_steps": WARM_UP + WATCHED, "log_every_n_steps": 1000}


def train_without_waits(built: Built, device: str) -> None:
    """Steps that wait for the guard alone and have finite losses."""
    run, waits = built.run, NoWaitsBesideTheGuard()
    run.trainer.callbacks.append(waits)  # type: ignore[attr-defined]
    run.trainer.fit(run.model, datamodule=run.datamodule)
    assert run.trainer.strategy.root_device.type == device
    assert run.trainer.global_step == WARM_UP + WATCHED and waits.watched == WATCHED
    losses: Any = run.model.step_losses
    assert losses and all(math.isfinite(float(loss)) for loss in losses.values())
