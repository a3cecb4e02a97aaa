"""Plain progress lines with time left, for logs and pipes where a live bar is noise."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from contextlib import ExitStack
from typing import Any

import lightning as L
from lightning.pytorch.callbacks import Callback, RichProgressBar

from vlp.progress import CountProgress, Pace, clock, waiting
from vlp.training.data_wait import WaitShare
from vlp.training.skipped_images import TAG


class PlainProgress(Callback):
    """Prints ``step 120/600 · loss 3.214 · 4.1 steps/s · data 3 % · 1:57 left`` at its :class:`Pace`, on rank 0.

    ``data`` is the share of time that training waited for its loader since the line before. Before the first step, and
    in a validation or a test, it says what is waited for.
    """

    def __init__(self, every: float | None = None) -> None:
        self.every = every
        self._pace = Pace(every)
        self._first_step = 0
        self._before = WaitShare()
        self._wait = ExitStack()
        self._batches: CountProgress | None = None

    def on_fit_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self._wait.enter_context(waiting("waiting for the first step"))

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self._pace = Pace(self.every)
        self._first_step = trainer.global_step

    def on_train_batch_end(self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, *_: Any) -> None:
        self._wait.close()
        total = _total_steps(trainer)
        done = trainer.global_step - self._first_step
        if not trainer.is_global_zero or not done or not (self._pace.due() or trainer.global_step >= total):
            return
        waits = WaitShare.now(trainer)
        share = waits.since(self._before)
        self._before = waits
        data = "" if share is None else f"data {share:.0%} · ".replace("%", " %")
        speed = done / self._pace.elapsed
        loss = float(outputs["loss"] if isinstance(outputs, dict) else outputs) * trainer.accumulate_grad_batches
        print(
            f"step {trainer.global_step}/{total} · loss {loss:.3f} · {speed:.2g} steps/s · {data}"
            f"{clock((total - trainer.global_step) / speed)} left{_skipped(trainer)}",
            flush=True,
        )

    def on_validation_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self._count("validation", trainer.num_val_batches, trainer)

    def on_test_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self._count("test", trainer.num_test_batches, trainer)

    def _count(self, title: str, batches: Sequence[float], trainer: L.Trainer) -> None:
        shown = trainer.is_global_zero and not trainer.sanity_checking
        self._batches = CountProgress(title, "batches", int(sum(batches)), shown, ends=False)
        self._wait.enter_context(waiting(f"waiting for the first batch of the {title}"))

    def on_validation_batch_end(self, *_: Any) -> None:
        self._advance()

    def on_test_batch_end(self, *_: Any) -> None:
        self._advance()

    def _advance(self) -> None:
        assert self._batches is not None
        self._batches.advance()
        self._wait.close()

    def teardown(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        self._wait.close()

    def on_exception(self, trainer: L.Trainer, pl_module: L.LightningModule, exception: BaseException) -> None:
        self._wait.close()


def _skipped(trainer: L.Trainer) -> str:
    skipped = sum(int(value) for name, value in trainer.callback_metrics.items() if name.startswith(TAG))
    return f" · {skipped:,} images skipped" if skipped else ""


def _total_steps(trainer: L.Trainer) -> int:
    return trainer.max_steps if trainer.max_steps > 0 else int(trainer.estimated_stepping_batches)


def progress_callback() -> Callback:
    """A live bar on a terminal, plain lines elsewhere."""
    return RichProgressBar() if sys.stdout.isatty() else PlainProgress()
