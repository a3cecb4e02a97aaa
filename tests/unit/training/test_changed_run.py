"""A run that goes on with other learning rates, other batches or more steps than its checkpoint's run had."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import lightning as L
import pytest
import torch
from lightning.pytorch.callbacks import Callback
from torch import nn

from tests.unit.training import test_exact_resume as engine
from tests.unit.training.test_exact_resume import SMALL, Noisy, Numbers, configured, fit, on_the_cpu
from vlp.training.resume import check_batches, is_complete
from vlp.training.schedules import lr_multiplier, schedule

__all__ = ["on_the_cpu"]

RATES: dict[str, Any] = {"lr": 0.1, "decay": 0.5, "max_steps": 6, "warmup": 2, "end_lr": 0.0}


class Scheduled(Noisy):
    """With the schedule of METER and ViLT over two groups, the second ten times as fast."""

    rates: dict[str, Any] = RATES

    def __init__(self) -> None:
        super().__init__()
        self.other = nn.Parameter(torch.zeros(1))

    def configure_optimizers(self) -> Any:
        lr, decay, max_steps, warmup, end_lr = self.rates.values()
        groups = [{"params": [*self.layer.parameters()]}, {"params": [self.other], "lr": 10 * lr, "weight_decay": 0.0}]
        optimizer = torch.optim.AdamW(groups, lr=lr, weight_decay=decay)
        return [optimizer], [
            {"scheduler": schedule(optimizer, lr, max_steps, warmup, end_lr=end_lr), "interval": "step"}
        ]


class Decays(Callback):
    """The weight decays of every step."""

    def __init__(self) -> None:
        self.seen: list[list[float]] = []

    def on_before_optimizer_step(self, trainer: L.Trainer, pl_module: L.LightningModule, optimizer: Any) -> None:
        self.seen.append([group["weight_decay"] for group in optimizer.param_groups])


@pytest.mark.parametrize(
    "new",
    [
        {"lr": 0.3},
        {"lr": 0.01, "decay": 0.0},
        {"max_steps": 12},
        {"warmup": 5, "end_lr": 0.05},
        {"lr": 1.0, "decay": 0.1, "max_steps": 9, "warmup": 0, "end_lr": 0.2},
    ],
)
def test_new_rates_hold_from_the_first_step_on(
    new: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engine, "Noisy", Scheduled)
    config, n = configured(SMALL, tmp_path)
    fit({**config, "max_steps": 3}, n)
    now = {**RATES, **new}
    monkeypatch.setattr(Scheduled, "rates", now)
    decays = Decays()
    lines = [json.loads(line) for line in fit(config, n, decays)]
    rates = [[line["lr-AdamW/pg1"], line["lr-AdamW/pg2"]] for line in lines if "lr-AdamW/pg1" in line]
    shape = {"max_steps": now["max_steps"], "warmup_steps": now["warmup"], "end_lr_ratio": now["end_lr"] / now["lr"]}
    expected = [now["lr"] * lr_multiplier(step, **shape) for step in (3, 4, 5)]
    assert rates == [[pytest.approx(rate), pytest.approx(10 * rate)] for rate in expected]
    assert decays.seen == 3 * [[now["decay"], 0.0]]


class Samples(Callback):
    """Of every batch its epoch, its place in it and its samples."""

    def __init__(self) -> None:
        self.seen: list[tuple[int, int, list[str]]] = []

    def on_train_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        self.seen.append((trainer.current_epoch, batch_idx, batch["text"]))

    def order(self) -> list[tuple[int, str]]:
        return [(epoch, sample) for epoch, _, samples in self.seen for sample in samples]


# 16 samples in batches of 2, two of them a step: after step 2, 8 of them are done.
@pytest.mark.parametrize(
    ("new", "sizes"),
    [
        ({"per_gpu_batchsize": 2, "batch_size": 4}, [2, 2, 2, 2]),
        ({"per_gpu_batchsize": 1, "batch_size": 4}, [1] * 8),
        ({"per_gpu_batchsize": 4, "batch_size": 4}, [4, 4]),
        ({"per_gpu_batchsize": 4, "batch_size": 8}, [4, 4]),
        ({"per_gpu_batchsize": 2, "batch_size": 8}, [2, 2, 2, 2]),
        ({"per_gpu_batchsize": 8, "batch_size": 8}, [8]),
        ({"per_gpu_batchsize": 2, "batch_size": 12}, [2, 2, 2, 2]),  # 4 of 8 batches done, the step ends after the 6th
    ],
)
@pytest.mark.parametrize("validate", [True, False])
def test_batches_of_another_size_go_on_at_the_same_sample(
    new: dict[str, Any], sizes: list[int], validate: bool, tmp_path: Path
) -> None:
    config, _ = configured({**SMALL, "accumulate": 2, "validate": validate}, tmp_path / "whole")
    whole, first, second = Samples(), Samples(), Samples()
    fit({**config, "max_steps": 8}, 16, whole)
    config["log_dir"] = str(tmp_path / "changed")
    fit({**config, "max_steps": 2}, 16, first)
    lines = [json.loads(line) for line in fit({**config, **new, "max_steps": 40, "max_epoch": 2}, 16, second)]
    assert (first.order() + second.order())[:32] == whole.order()
    rest = [(place, len(samples)) for epoch, place, samples in second.seen if epoch == 0]
    batches = 16 // new["per_gpu_batchsize"]
    assert rest == list(zip(range(batches - len(sizes), batches), sizes, strict=True))
    steps = [line["step"] for line in lines if "loss" in line]
    assert steps == list(range(2, 40))


def test_a_step_of_fewer_batches_is_said(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    config, _ = configured({**SMALL, "accumulate": 2}, tmp_path)
    fit({**config, "max_steps": 3}, 16)
    fit({**config, "batch_size": 8, "max_steps": 5}, 16)
    assert "[resume] the first step is made of 2 batches instead of 4" in caplog.text


def test_batches_that_do_not_begin_where_a_checkpoint_stands_are_refused() -> None:
    for size, position in ((2, 8), (8, 8), (5, 15), (16, 0), (5, 16)):  # 16 of 16: the epoch is done
        check_batches(Numbers(16, False, 0, size), position)
    with pytest.raises(ValueError, match="it stands after 8 of a process's 16 samples of the epoch, which batches of"):
        check_batches(Numbers(16, False, 0, 3), 8)


def test_a_run_is_complete_or_too_long_for_what_is_asked() -> None:
    progress = {"epoch_progress": {"current": {"completed": 2}}}
    checkpoint = {"global_step": 30, "loops": {"fit_loop": progress}}
    assert is_complete("last.ckpt", checkpoint, 30, 1000) and not is_complete("last.ckpt", checkpoint, 31, 1000)
    assert is_complete("last.ckpt", checkpoint, None, 2) and not is_complete("last.ckpt", checkpoint, None, 3)
    with pytest.raises(ValueError, match=r"max_steps=29, but resume_from=last\.ckpt has done 30 steps: give a"):
        is_complete("last.ckpt", checkpoint, 29, 1000)
    with pytest.raises(ValueError, match=r"max_epoch=1, but resume_from=last\.ckpt has done 2 epochs"):
        is_complete("last.ckpt", checkpoint, None, 1)
