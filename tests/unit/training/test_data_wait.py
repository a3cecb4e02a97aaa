"""The share of waiting, through a real Trainer and a clock that only the loader, the step and the validation move."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import lightning as L
import pytest
import torch
from lightning.pytorch.callbacks import Callback
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from vlp.training import data_wait
from vlp.training.data_wait import DataWait, StepClock, WaitShare
from vlp.training.progress import PlainProgress

LOAD, STEP = 3.0, 1.0


class Clock:
    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 0.0
        monkeypatch.setattr(data_wait, "time", SimpleNamespace(monotonic=lambda: self.now))


class Slow(Dataset[Tensor]):
    """The first ``slow`` samples take ``LOAD`` seconds, the others none."""

    def __init__(self, clock: Clock, slow: int) -> None:
        self.clock, self.slow = clock, slow

    def __len__(self) -> int:
        return 8

    def __getitem__(self, index: int) -> Tensor:
        self.clock.now += LOAD if index < self.slow else 0
        return torch.zeros(1)


class Working(L.LightningModule):
    def __init__(self, clock: Clock) -> None:
        super().__init__()
        self.clock, self.p = clock, nn.Parameter(torch.zeros(1))

    def training_step(self, batch: Tensor, batch_idx: int) -> Tensor:
        self.clock.now += STEP
        return self.p.sum()

    def validation_step(self, batch: Tensor, batch_idx: int) -> None:
        self.clock.now += 1000

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.1)


class Shares(Callback):
    """What was logged after every batch."""

    def __init__(self) -> None:
        self.seen: list[float] = []

    def on_train_batch_end(self, trainer: L.Trainer, *_: Any) -> None:
        self.seen.append(float(trainer.callback_metrics["data/wait_share"]))


def train(clock: Clock, *callbacks: Callback, slow: int = 4, **options: Any) -> None:
    trainer = L.Trainer(
        accelerator="cpu",
        max_epochs=1,
        callbacks=list(callbacks),
        log_every_n_steps=2,
        val_check_interval=3,
        num_sanity_val_steps=0,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        **options,
    )
    train, validate = (DataLoader(Slow(clock, slow)) for _ in range(2))
    trainer.fit(Working(clock), train, validate)


def test_waiting_is_a_share_of_loading_and_working(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of each interval of two steps; validations (thousands of seconds) belong to neither."""
    clock, shares = Clock(monkeypatch), Shares()
    train(clock, DataWait(), shares, profiler=StepClock())
    loading = LOAD / (LOAD + STEP)
    assert shares.seen == pytest.approx([loading] * 4 + [0.0] * 4)
    assert clock.now > 8000


def test_an_interval_has_steps_not_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two steps of two batches each, of which the first step's wait."""
    clock, shares = Clock(monkeypatch), Shares()
    train(clock, DataWait(), shares, slow=2, profiler=StepClock(), accumulate_grad_batches=2)
    waited, worked = 2 * LOAD, STEP
    first = [0.75, 0.75, waited / (waited + 3 * worked), waited / (waited + 4 * worked)]
    assert shares.seen == pytest.approx([*first, 0, 0, 0, 0])


def test_the_progress_line_shows_it(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    clock = Clock(monkeypatch)
    train(clock, PlainProgress(every=0), profiler=StepClock())
    lines = [line.split(" · ") for line in capsys.readouterr().out.splitlines() if line.startswith("step")]
    assert [line[3] for line in lines] == ["data 75 %"] * 4 + ["data 0 %"] * 4
    assert all(len(line) == 5 and line[4].endswith(" left") for line in lines)


def test_without_the_clock_nothing_is_said(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    clock = Clock(monkeypatch)
    train(clock, DataWait(), PlainProgress(every=0))
    assert "step 8/8" in (printed := capsys.readouterr().out) and "data" not in printed


def test_a_moment_without_work_has_no_share() -> None:
    assert WaitShare(2, 3).since(WaitShare(2, 3)) is None
    assert WaitShare(3, 6).since(WaitShare(2, 3)) == 0.25
