"""When a run saves, and what: nothing between accumulated batches, the best validation, the last step."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path
from typing import Any

import lightning as L
import pytest
import torch
from lightning.pytorch.callbacks import Callback
from torch.utils.data import DataLoader

from tests.unit.training.test_exact_resume import SMALL, Breaker, Numbers, ask, configured, fit, on_the_cpu
from vlp.checkpoint.atomic_io import AtomicCheckpointIO

__all__ = ["on_the_cpu"]


# From within the first accumulation, through validations in its middle and after its step, into the second epoch.
HOOKS = range(13, 50, 2)


class Saves(Callback):
    """The step of every save of last.ckpt, and how many batches had been accumulated for the next one by then."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.waiting, self.steps, self.waited = 0, list[int](), list[int]()
        save = AtomicCheckpointIO.save_checkpoint

        def noted(disk: AtomicCheckpointIO, checkpoint: dict[str, Any], path: Path, **options: Any) -> None:
            if Path(path).name == "last.ckpt":
                self.steps.append(checkpoint["global_step"])
                self.waited.append(self.waiting)
            save(disk, checkpoint, path, **options)

        monkeypatch.setattr(AtomicCheckpointIO, "save_checkpoint", noted)

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self.waiting = 0

    def on_after_backward(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self.waiting += 1

    def on_before_optimizer_step(self, *_: Any) -> None:
        self.waiting = 0


def test_a_signal_at_any_hook_saves_between_two_steps_and_nothing_is_done_twice(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between accumulated batches gradients would be lost: in validations there, every so many steps, by a signal."""
    run = {"batches": 5, "accumulate": 3, "max_steps": 3, "interval": 1, "validate": True, "save_every_n_steps": 1}
    config, n = configured(run, tmp_path / "whole")
    expected = fit(config, n)
    saves = Saves(monkeypatch)
    for hook in HOOKS:
        broken = {**config, "log_dir": str(tmp_path / str(hook))}
        assert fit(broken, n, saves, Breaker(hook, ask)) + fit(broken, n, saves) == expected, hook
    assert set(saves.waited) == {0}


@pytest.mark.parametrize(("every", "steps"), [(0, [2, 4, 6, 7]), (3, [2, 3, 4, 6, 7]), (1, [1, 2, 3, 4, 5, 6, 7])])
def test_the_last_checkpoint_is_saved_after_validations_and_every_so_many_steps(
    every: int, steps: list[int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of epochs of four steps, each with two validations; the last one is cut."""
    saves = Saves(monkeypatch)
    fit(*configured({**SMALL, "interval": 2, "max_steps": 7, "save_every_n_steps": every}, tmp_path), saves)
    assert saves.steps == steps


def test_a_sigterm_while_the_loaders_are_built_is_not_lost(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """Lightning's handler gets it, which by itself would end the run with status 0."""
    config, n = configured({**SMALL, "validate": False}, tmp_path)
    build = Numbers.train_dataloader

    def stopped(data: Numbers) -> DataLoader[Any]:
        os.kill(os.getpid(), signal.SIGTERM)
        return build(data)

    with monkeypatch.context() as patched:
        patched.setattr(Numbers, "train_dataloader", stopped)
        assert fit(config, n) == []
    assert "stopped by a signal after step 0; status 75: start it again" in capfd.readouterr().out
    assert len(fit(config, n)) > SMALL["max_steps"]


def test_the_best_checkpoint_has_the_weights_of_the_best_validation(tmp_path: Path) -> None:
    """Not those of its epoch's end."""
    config, n = configured({**SMALL, "interval": 1}, tmp_path)
    config["seed"] = 0  # with which the best one is in mid-epoch
    lines = [json.loads(line) for line in fit(config, n)]
    scores = {line["step"] + 1: line["val/the_metric"] for line in lines if "val/the_metric" in line}
    best = max(scores, key=lambda step: scores[step])
    assert list(scores) == [1, 2, 3, 4, 5, 6] and best not in (4, 6)
    (path,) = tmp_path.rglob("epoch=*.ckpt")
    saved = torch.load(path, weights_only=True)
    assert path.name == f"epoch={(best - 1) // 4}-step={best}.ckpt" and saved["global_step"] == best
    (callback,) = (state for key, state in saved["callbacks"].items() if "BestCheckpoint" in key)
    assert float(callback["best_model_score"]) == pytest.approx(scores[best])
