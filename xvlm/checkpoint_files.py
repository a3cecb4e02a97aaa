"""The official checkpoints that X-VLM's scripts leave (docs/official/xvlm.md §8.1).

A file of weights holds ``model`` and ``config``, and the weights of an added objective apart;
``training_state_latest.th`` the optimiser and the epoch. Nothing goes on from them: ``checkpoints/last.ckpt`` is for
that.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import lightning as L
from lightning.pytorch.callbacks import Callback
from torch import nn

from vlp.yaml_dialect.kept_files import EpochEnd, Files, official_weights
from vlp.yaml_dialect.official_files import write_files

STATE = "training_state_latest.th"


def pretraining_epochs(end: EpochEnd) -> Files:
    """Every ``ckpt_frequent`` epochs ``model_state_epoch_4.th`` and the optimiser.

    Also of the last epoch, of which officially nothing is left unless its number serves.
    """
    due = (end.epoch + 1) % end.config["ckpt_frequent"] == 0 or end.last
    return every_epoch(end) if due else {}


def every_epoch(end: EpochEnd) -> Files:
    """``model_state_epoch_4.th`` and the optimiser."""
    optimizer = end.trainer.strategy.optimizer_state(end.trainer.optimizers[0])
    return {
        f"model_state_epoch_{end.epoch}.th": weights_of(end.module, end.config),
        STATE: {"optimizer": optimizer, "epoch": end.epoch},
    }


def domain_stage(end: EpochEnd) -> Files:
    """One file, when the stage ends."""
    return {"model_state_epoch_latest.th": weights_of(end.module, end.config)} if end.last else {}


def best_epoch(end: EpochEnd) -> Files:
    """One file, of the best."""
    return {"checkpoint_best.pth": weights_of(end.module, end.config)} if end.better else {}


def best_or_last(end: EpochEnd) -> Files:
    """:func:`best_epoch`, and ``checkpoint_9.pth`` of the last epoch where that is not the best."""
    if end.last and not end.better:
        return {f"checkpoint_{end.epoch}.pth": weights_of(end.module, end.config)}
    return best_epoch(end)


def weights_of(module: nn.Module, config: Mapping[str, Any]) -> dict[str, Any]:
    """The content of a file of weights."""
    return {**official_weights(module), "config": dict(config)}


class StepFiles(Callback):
    """Pre-training's ``model_state_step_49999.th``, every ``ckpt_frequent_step`` iterations, which count from 0."""

    def __init__(self, config: Mapping[str, Any]) -> None:
        self.config = config

    def on_train_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: dict[str, Any], batch_idx: int
    ) -> None:
        iteration = batch["iteration"]
        due = batch["ends_iteration"] and (iteration + 1) % self.config["ckpt_frequent_step"] == 0
        if due and iteration > 0 and trainer.is_global_zero:
            content = weights_of(pl_module, self.config)
            write_files(trainer, Path(self.config["output_dir"]), {f"model_state_step_{iteration}.th": content})
