"""What a GPU's host waits for in the batches of real runs of every script: one value of the guard, nothing else."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from tests.unit.albef.small_runs import saved_teacher
from tests.unit.albef.task_runs import SCRIPTS, built, config_of, write_data
from tests.unit.training.test_host_waits import BatchWaits

EPIC = {"enabled": True}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("run")
    write_data(folder)
    return folder


def check_waits(script: str, config: dict[str, Any]) -> None:
    """Of a run of four steps: the first makes the optimiser's state, a line of progress reads the loss of the last."""
    run, waits = built(script, config).run, BatchWaits()
    run.trainer.callbacks.append(waits)  # type: ignore[attr-defined]
    run.trainer.fit(run.model, datamodule=run.datamodule)
    assert run.trainer.global_step == 4
    # AdamW reads the number of its steps for every tensor: on a GPU, too, it stands on the host.
    (optimizer,) = run.trainer.optimizers
    assert waits.of_batches[1:3] == [Counter(_local_scalar_dense=1 + len(optimizer.state))] * 2


def changes(output: Path, **more: Any) -> dict[str, Any]:
    return {"num_workers": 1, "max_steps": 4, "log_every_n_steps": 1000, "output_dir": str(output), **more}


@pytest.mark.parametrize("script", SCRIPTS)
def test_a_step_waits_for_its_guard_alone(script: str, folder: Path, tmp_path: Path) -> None:
    check_waits(script, config_of(script, folder, **changes(tmp_path)))


@pytest.mark.parametrize("epic", [{}, EPIC, {**EPIC, "teacher": "momentum"}], ids=["vanilla", "epic", "momentum"])
def test_nor_for_more_in_half_precision(epic: dict[str, Any], folder: Path, tmp_path: Path) -> None:
    teacher = {"teacher_path": saved_teacher(folder)} if epic == EPIC else {}
    check_waits("Pretrain", config_of("Pretrain", folder, **changes(tmp_path, precision="bf16", epic=epic, **teacher)))


@pytest.mark.parametrize("script", ["Retrieval", "VQA"])
def test_nor_in_half_precision_downstream(script: str, folder: Path, tmp_path: Path) -> None:
    check_waits(script, config_of(script, folder, **changes(tmp_path, precision="bf16")))
