"""Evaluations that begin late in a run, where one takes as long as training for an epoch does.

Source: docs/official/xvlm.md §7.2.
"""

from __future__ import annotations

import lightning as L
from lightning.pytorch.callbacks import Callback


class EvaluateFrom(Callback):
    """Score no epoch before ``start_eval``, counted from 0, but the last one in any case."""

    def __init__(self, start_eval: int) -> None:
        self.start_eval = start_eval
        self.whole: int | float | None = None

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self.on_train_epoch_start(trainer, pl_module)  # which is not called where a run goes on within an epoch

    def on_train_epoch_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        if self.whole is None:
            self.whole = trainer.limit_val_batches
        last = trainer.current_epoch + 1 == trainer.max_epochs
        trainer.limit_val_batches = self.whole if last or trainer.current_epoch >= self.start_eval else 0
