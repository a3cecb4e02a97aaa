"""The parameters that a real backward pass leaves without a gradient are exactly those that every model names."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from epic_common.config import PRESETS
from tests.unit.albef.small_runs import saved_teacher
from tests.unit.albef.task_runs import SCRIPTS, built, config_of
from tests.unit.test_unused_parameters import told
from vlp.losses.total import total_loss

EPIC: dict[str, dict[str, Any]] = {
    **{name: dict(PRESETS[name]) for name in ("epic", "lm_fixed", "lm_cond")},
    "vlm_sas": {**PRESETS["vlm_sas"], "sas_refresh_steps": 2},
    "momentum": {"teacher": "momentum"},
}
UNDISTILLED = ("Retrieval", "VQA", "VE", "NLVR", "Grounding")


def check_told(script: str, config: dict[str, Any]) -> None:
    """After one batch of the run."""
    run = built(script, config).run
    model: Any = run.model.train()
    batch = next(iter(run.datamodule.train_dataloader()))
    total_loss(model(batch, 0.4)).backward()
    without = {name for name, p in model.named_parameters() if p.requires_grad and p.grad is None}
    assert without == told(model)
    assert any(p.grad is not None for p in model.parameters())


@pytest.mark.parametrize("script", SCRIPTS)
def test_every_script(script: str, folder: Path, tmp_path: Path) -> None:
    check_told(script, config_of(script, folder, output_dir=str(tmp_path)))


@pytest.mark.parametrize("script", UNDISTILLED)
def test_without_momentum_models(script: str, folder: Path, tmp_path: Path) -> None:
    check_told(script, config_of(script, folder, output_dir=str(tmp_path), distill=False))


@pytest.mark.parametrize("epic", EPIC.values(), ids=EPIC)
def test_pre_training_with_epic(epic: dict[str, Any], folder: Path, tmp_path: Path) -> None:
    teacher = "" if epic.get("teacher") == "momentum" else saved_teacher(folder)
    settings = {**epic, "enabled": True}
    check_told("Pretrain", config_of("Pretrain", folder, output_dir=str(tmp_path), epic=settings, teacher_path=teacher))
