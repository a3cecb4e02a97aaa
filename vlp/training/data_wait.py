"""How much of its time a training process waits for its data loader: ``data/wait_share``."""

from __future__ import annotations

import time
from typing import Any, NamedTuple

import lightning as L
import torch
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.profilers import PassThroughProfiler

FETCH, STEP = "[_TrainingEpochLoop].train_dataloader_next", "run_training_batch"


class StepClock(PassThroughProfiler):
    """Sums up the seconds that training waited for batches and those that it worked on them.

    Lightning calls it around both. Validation and saving belong to neither.
    """

    def __init__(self) -> None:
        super().__init__()
        self.seconds = {FETCH: 0.0, STEP: 0.0}
        self._started: dict[str, float] = {}

    def start(self, action_name: str) -> None:
        if action_name in self.seconds:
            self._started[action_name] = time.monotonic()

    def stop(self, action_name: str) -> None:
        if action_name in self._started:
            self.seconds[action_name] += time.monotonic() - self._started.pop(action_name)


class WaitShare(NamedTuple):
    """The clock's sums at one moment, to measure from."""

    waited: float = 0.0
    worked: float = 0.0

    @classmethod
    def now(cls, trainer: L.Trainer) -> WaitShare:
        """The sums up to now; zeros where the trainer has no :class:`StepClock`."""
        clock = trainer.profiler  # type: ignore[attr-defined]
        return cls(clock.seconds[FETCH], clock.seconds[STEP]) if isinstance(clock, StepClock) else cls()

    def since(self, before: WaitShare) -> float | None:
        """The share of waiting, 0 to 1, between ``before`` and this moment; None if nothing was measured."""
        waited, worked = self.waited - before.waited, self.worked - before.worked
        return waited / (waited + worked) if waited + worked > 0 else None


class DataWait(Callback):
    """Logs ``data/wait_share`` of every logging interval, on rank 0."""

    def __init__(self) -> None:
        self._before = WaitShare()
        self._interval = 0

    def on_train_batch_end(self, trainer: L.Trainer, pl_module: L.LightningModule, *_: Any) -> None:
        now = WaitShare.now(trainer)
        share = now.since(self._before)
        if share is not None:
            # A tensor of the host, which Lightning leaves there: it would copy a float to the device.
            pl_module.log("data/wait_share", torch.tensor(share), rank_zero_only=True)
        interval = trainer.global_step // trainer.log_every_n_steps  # type: ignore[attr-defined]
        if interval != self._interval:
            self._before, self._interval = now, interval
