"""Plain progress lines with time left, for logs and pipes where a live bar is noise."""

from __future__ import annotations

import sys
import time
from typing import Any

import lightning as L
from lightning.pytorch.callbacks import Callback, RichProgressBar

from vlp.progress import clock
from vlp.training.data_wait import WaitShare
from vlp.training.skipped_images import TAG


class PlainProgress(Callback):
    """Prints ``step 120/600 · loss 3.214 · 4.1 steps/s · data 3 % · 1:57 left`` every ``every`` seconds, on rank 0.

    ``data`` is the share of time that training waited for its loader since the line before.
    """

    def __init__(self, every: float = 10.0) -> None:
        self.every = every
        self._started = self._printed = 0.0
        self._first_step = 0
        self._before = WaitShare()

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self._started = self._printed = time.monotonic()
        self._first_step = trainer.global_step

    def on_train_batch_end(self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, *_: Any) -> None:
        now, total = time.monotonic(), _total_steps(trainer)
        done = trainer.global_step - self._first_step
        if not trainer.is_global_zero or not done or (now - self._printed < self.every and trainer.global_step < total):
            return
        self._printed = now
        waits = WaitShare.now(trainer)
        share = waits.since(self._before)
        self._before = waits
        data = "" if share is None else f"data {share:.0%} · ".replace("%", " %")
        speed = done / (now - self._started)
        loss = float(outputs["loss"] if isinstance(outputs, dict) else outputs) * trainer.accumulate_grad_batches
        print(
            f"step {trainer.global_step}/{total} · loss {loss:.3f} · {speed:.2g} steps/s · {data}"
            f"{clock((total - trainer.global_step) / speed)} left{_skipped(trainer)}",
            flush=True,
        )


def _skipped(trainer: L.Trainer) -> str:
    skipped = sum(int(value) for name, value in trainer.callback_metrics.items() if name.startswith(TAG))
    return f" · {skipped:,} images skipped" if skipped else ""


def _total_steps(trainer: L.Trainer) -> int:
    return trainer.max_steps if trainer.max_steps > 0 else int(trainer.estimated_stepping_batches)


def progress_callback() -> Callback:
    """A live bar on a terminal, plain lines elsewhere."""
    return RichProgressBar() if sys.stdout.isatty() else PlainProgress()
