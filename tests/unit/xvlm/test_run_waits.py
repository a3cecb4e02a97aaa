"""What a GPU's host waits for in the steps of real runs of every script: one value of the guard."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from tests.unit.training.test_host_waits import BatchWaits
from tests.unit.xvlm import task_runs
from tests.unit.xvlm.small_runs import built, config_of
from tests.unit.xvlm.task_runs import LISTS, STAGES, write_data

STEPS = 8


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("run")
    write_data(folder)
    return folder


@pytest.mark.parametrize("precision", [32, "bf16"])
def test_a_step_of_either_stream_waits_for_its_guard_alone(precision: Any, folder: Path, tmp_path: Path) -> None:
    changes: dict[str, Any] = {
        "num_workers": 1,
        "max_steps": STEPS,
        "log_every_n_steps": 1000,
        "output_dir": str(tmp_path),
    }
    run, waits = built(config_of(folder, precision=precision, ckpt_frequent_step=1000, **changes)).run, BatchWaits()
    run.trainer.callbacks.append(waits)  # type: ignore[attr-defined]
    run.trainer.fit(run.model, datamodule=run.datamodule)
    turns = run.datamodule.train_dataloader().turns(0)
    started = 1 + max(next(i for i, turn in enumerate(turns) if turn.stream == each) for each in ("images", "regions"))
    # Each stream's loader draws a seed, on the host; a line of progress reads the loss of the last step.
    counted = slice(started, STEPS - 1)
    assert {turn.stream for turn in turns[counted]} == {"images", "regions"}
    assert waits.of_batches[counted] == [Counter(_local_scalar_dense=1)] * (STEPS - 1 - started)


@pytest.mark.parametrize("script", [*STAGES, *LISTS])
def test_nor_does_one_of_another_script(script: str, folder: Path, tmp_path: Path) -> None:
    changes: dict[str, Any] = {"num_workers": 1, "max_steps": 4, "log_every_n_steps": 1000}
    config = task_runs.config_of(script, folder, output_dir=str(tmp_path), **changes)
    run, waits = task_runs.built(script, config).run, BatchWaits()
    run.trainer.callbacks.append(waits)  # type: ignore[attr-defined]
    run.trainer.fit(run.model, datamodule=run.datamodule)
    assert waits.of_batches[1:3] == [Counter(_local_scalar_dense=1)] * 2
