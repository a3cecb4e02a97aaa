"""A training step of every script on a device without values: whatever asks the host for one fails."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from lightning.fabric.utilities import move_data_to_device

from epic_common.config import PRESETS
from tests.unit.albef.small_runs import saved_teacher
from tests.unit.albef.task_runs import SCRIPTS, built, config_of
from tests.unit.training.test_no_values import META, OnHost, meta
from vlp.losses.total import total_loss

__all__ = ["meta"]
VARIANTS: dict[str, dict[str, Any]] = {
    **{name: dict(PRESETS[name]) for name in ("epic", "itc_rand", "lm_fixed", "lm_cond")},
    "momentum": {"teacher": "momentum"},
}


def check_nothing_is_asked(script: str, config: dict[str, Any]) -> None:
    run = built(script, config).run
    batch = move_data_to_device(next(iter(run.datamodule.train_dataloader())), META)
    model: Any = run.model.to(META).train()
    epic = getattr(model, "epic", None)
    if epic is not None and epic.teacher is not None:
        epic.teacher.place(META)
    with OnHost() as host:
        loss = total_loss(model(batch, 0.4))
        loss.backward()
    assert loss.device == META and not host.found
    assert any(p.grad is not None for p in model.parameters())


@pytest.mark.usefixtures("meta")
@pytest.mark.parametrize("script", SCRIPTS)
def test_forward_and_backward_touch_nothing_on_the_host(script: str, folder: Path, tmp_path: Path) -> None:
    check_nothing_is_asked(script, config_of(script, folder, output_dir=str(tmp_path)))


@pytest.mark.usefixtures("meta")
@pytest.mark.parametrize("epic", VARIANTS.values(), ids=VARIANTS)
def test_nor_does_epic(epic: dict[str, Any], folder: Path, tmp_path: Path) -> None:
    needs = epic.get("teacher") != "momentum"
    changes: dict[str, Any] = {"teacher_path": saved_teacher(folder)} if needs else {}
    changes["epic"] = {**epic, "enabled": True}
    check_nothing_is_asked("Pretrain", config_of("Pretrain", folder, output_dir=str(tmp_path), **changes))
