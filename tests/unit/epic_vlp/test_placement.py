"""The frozen models of a run are on its device before the first batch, and nothing walks them for a batch."""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

import lightning as L
import pytest
import torch
from lightning.pytorch.callbacks import Callback
from torch import nn

from epic_common.teacher import FrozenModel
from epic_vlp.lightning_epic import LightningEpic
from tests.unit.training.small_runs import built, saved_teacher, write_data

WALKS = ("to", "train", "eval", "requires_grad_")


class Walks(Callback):
    """Every walk over the modules of a model: of which, to where, in inference mode or not, in a training batch."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.seen: list[tuple[str, nn.Module, tuple[Any, ...], bool]] = []
        self.in_batches: list[tuple[str, nn.Module]] = []
        self.validated, self.tested_in_inference_mode = 0, False
        self._in_batch = False
        for name in WALKS:
            monkeypatch.setattr(nn.Module, name, self._seen(name, getattr(nn.Module, name)))

    def _seen(self, name: str, walk: Any) -> Any:
        def seen(module: nn.Module, *arguments: Any, **named: Any) -> nn.Module:
            self.seen.append((name, module, arguments, torch.is_inference_mode_enabled()))
            if self._in_batch:
                self.in_batches.append((name, module))
            return walk(module, *arguments, **named)

        return seen

    def on_validation_batch_end(self, trainer: L.Trainer, *_: Any) -> None:
        self.validated += trainer.sanity_checking

    def on_test_batch_end(self, *_: Any) -> None:
        self.tested_in_inference_mode = torch.is_inference_mode_enabled()

    def on_train_batch_start(self, *_: Any) -> None:
        self._in_batch = True

    def on_train_batch_end(self, *_: Any) -> None:
        self._in_batch = False


@pytest.mark.parametrize("variant", ["epic", "epic_vlm_sas"])
def test_a_run_that_begins_with_a_sanity_check(variant: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_data(tmp_path)
    run = built("meter", tmp_path, *dict.fromkeys(("epic", variant)))
    walks, epic = Walks(monkeypatch), cast(LightningEpic, run.model.epic)
    first: Any = epic.teacher or (epic.snapshot and epic.snapshot.frozen)
    run.trainer.callbacks.append(walks)  # type: ignore[attr-defined]
    run.trainer.fit(run.model, datamodule=run.datamodule)
    assert run.trainer.global_step == 3 and walks.validated > 0
    assert walks.in_batches == []
    of_first = [
        (name, arguments, inference) for name, module, arguments, inference in walks.seen if module is first.module
    ]
    assert set(of_first) == {("to", (run.trainer.strategy.root_device,), False)}
    for part in (epic.teacher, epic.snapshot and epic.snapshot.frozen):
        if not isinstance(part, FrozenModel):
            continue
        assert not any(p.is_inference() or p.requires_grad for p in part.module.parameters())
        assert not any(module.training for module in part.module.modules())


def test_a_run_that_tests_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In inference mode, whose tensors a teacher must not become."""
    write_data(tmp_path)
    run = built("meter", tmp_path, "epic", test_only=True, load_path=saved_teacher("meter", tmp_path))
    walks, teacher = Walks(monkeypatch), cast(Any, run.model.epic).teacher
    run.trainer.callbacks.append(walks)  # type: ignore[attr-defined]
    run.trainer.test(run.model, datamodule=run.datamodule, verbose=False)
    of_teacher = [(name, inference) for name, module, _, inference in walks.seen if module is teacher.module]
    assert walks.tested_in_inference_mode and of_teacher == [("to", False)]
    assert run.trainer.callback_metrics["epic/val/epic_itc"].isfinite()
