"""EPIC in real runs of ALBEF: what they log, what a host waits for, and exact resume in the middle of an epoch."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.unit.albef.small_runs import built, config_of, saved_teacher
from tests.unit.training.test_host_waits import BatchWaits
from tests.unit.yaml_runs import metrics_of
from vlp.training.run import train

TEACHERS: dict[str, dict[str, Any]] = {
    "checkpoint": {},
    "momentum": {"teacher": "momentum"},
    "vlm_sas": {"replacement": "vlm", "sas_refresh_steps": 2},
    "lm_cond": {"image_conditioned": True},
    "surprise": {"masking": "surprise"},
    "frequency": {"masking": "frequency"},
}
EVERY = pytest.mark.parametrize(
    "epic",
    [
        pytest.param(value, id=name, marks=[pytest.mark.slow] if "masking" in value else [])
        for name, value in TEACHERS.items()
    ],
)


def run_of(folder: Path, epic: dict[str, Any], **changes: Any) -> dict[str, Any]:
    needed = epic.get("teacher") != "momentum" and "masking" not in epic
    return config_of(folder, epic, teacher_path=saved_teacher(folder) if needed else "", **changes)


@EVERY
def test_a_step_waits_for_its_guard_alone(epic: dict[str, Any], folder: Path, tmp_path: Path) -> None:
    config = run_of(folder, epic, num_workers=1, max_steps=3, log_every_n_steps=1000, output_dir=str(tmp_path))
    run, waits = built(config).run, BatchWaits()
    run.trainer.callbacks.append(waits)  # type: ignore[attr-defined]
    run.trainer.fit(run.model, datamodule=run.datamodule)
    assert run.trainer.global_step == 3
    # AdamW reads the number of its steps for every tensor: it stands on the host.
    tensors = sum(p.requires_grad for p in run.model.parameters())
    assert waits.of_batches[1] == Counter(_local_scalar_dense=1 + tensors)


def test_a_setting_that_does_nothing_is_told(folder: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    built(config_of(folder, {"enabled": False}, teacher_path="x.pth", output_dir=str(tmp_path)))
    assert "EPIC is off, so teacher_path=x.pth does nothing: a configuration" in caplog.text


@pytest.mark.parametrize("epic", [TEACHERS["momentum"], TEACHERS["vlm_sas"]], ids=["momentum", "vlm_sas"])
def test_a_run_broken_in_mid_epoch_goes_on_exactly(epic: dict[str, Any], folder: Path, tmp_path: Path) -> None:
    """Weights, momentum copies, queues, draws, snapshot and running metrics are those of the unbroken run."""
    states = []
    for name, stops in (("whole", [8]), ("broken", [4, 8])):
        for stop in stops:
            output = str(tmp_path / name)
            config = run_of(folder, epic, output_dir=output, max_steps=stop, log_every_n_steps=3, resume_from="auto")
            made = built(config)
            train(made.run, config, config["seed"])
        states.append(made.run.model.state_dict())
    whole, broken = states
    assert whole.keys() == broken.keys() and any(name.startswith("epic.head") for name in whole)
    assert [name for name in whole if not torch.equal(whole[name], broken[name])] == []
    logged = metrics_of(tmp_path / "whole")
    assert logged == metrics_of(tmp_path / "broken")
    names = {name for _, name in logged}
    assert {"train/loss_ita", "epic/train/epic_itc"} <= names
    assert ("epic/train/epic_gen" in names) == (epic.get("replacement") != "vlm")
