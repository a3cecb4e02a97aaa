"""What a GPU's host waits for in the steps of real runs, of images and of regions: one value of the guard."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from tests.unit.training.test_host_waits import BatchWaits
from tests.unit.xvlm.small_runs import built, config_of, saved_teacher, write_data

STEPS = 8
EPIC = {"enabled": True, "append_sep": True}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("run")
    write_data(folder)
    saved_teacher(folder)
    return folder


@pytest.mark.parametrize("precision", [32, "bf16"])
def test_a_step_of_either_stream_waits_for_its_guard_alone(precision: Any, folder: Path, tmp_path: Path) -> None:
    changes = {"num_workers": 1, "max_steps": STEPS, "log_every_n_steps": 1000, "output_dir": str(tmp_path)}
    run, waits = built(config_of(folder, precision=precision, ckpt_frequent_step=1000, **changes)).run, BatchWaits()
    run.trainer.callbacks.append(waits)  # type: ignore[attr-defined]
    run.trainer.fit(run.model, datamodule=run.datamodule)
    # The first step makes the optimiser's state; a line of progress reads the loss of the last.
    assert waits.of_batches[1 : STEPS - 1] == [Counter(_local_scalar_dense=1)] * (STEPS - 2)
