"""``logger=wandb``: the metrics of a run also go to Weights & Biases, whose own variables say how (WANDB_MODE, …)."""

from __future__ import annotations

import logging
import os
import uuid
from collections.abc import Callable, Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import lightning as L
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.loggers import WandbLogger
from lightning.pytorch.utilities import rank_zero_only

from vlp.checkpoint.weights import read_checkpoint
from vlp.training.run_log import run_directory

log = logging.getLogger(__name__)

KEY = "wandb"  # in a checkpoint of a run: the id of its run there
PROJECT = "epic-vlp"


class WandbLog(WandbLogger):
    """Lightning's, but trouble with it ends the logging, not the run: only rank 0 logs, and the others would wait."""

    _ended = False

    @rank_zero_only
    def open(self) -> None:
        """Begin the run there, or go on with it.

        Raises:
            ValueError: it cannot begin, for want of a login or a connection.
        """
        import wandb

        try:
            _ = self.experiment
        except wandb.errors.Error as error:
            raise ValueError(
                f"logger=wandb: {_first_line(error)}; run wandb login, or set WANDB_MODE=offline"
            ) from error

    @rank_zero_only
    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        self._attempt(super().log_metrics, metrics, step)

    def _attempt(self, write: Callable[..., None], *arguments: Any) -> None:
        import wandb

        if self._ended:
            return
        try:
            write(*arguments)
        except (wandb.errors.Error, OSError) as error:
            self._ended = True
            log.error("wandb takes no more metrics: %s. The run goes on; metrics.jsonl has them", _first_line(error))


class KeepsRunId(Callback):
    """Writes the id of the run there into every checkpoint, so that ``resume_from`` goes on with it."""

    def __init__(self, run_id: str) -> None:
        self.run_id = run_id

    def on_save_checkpoint(self, trainer: L.Trainer, pl_module: L.LightningModule, checkpoint: dict[str, Any]) -> None:
        checkpoint[KEY] = self.run_id


def check_logger(choice: str | None) -> None:
    """Refuse ``logger=wandb`` without its package.

    Raises:
        ValueError: it is not installed.
    """
    if choice == "wandb":
        try:
            version("wandb")  # a folder of that name, which its runs leave, can be imported, too
        except PackageNotFoundError as error:
            raise ValueError("logger=wandb: the package wandb is not installed: pip install 'wandb>=0.18'") from error


def add_wandb(trainer: L.Trainer, choice: str | None, resume_from: str | None) -> None:
    """Give ``trainer`` the logger beside its others, if ``choice`` is "wandb" and the run leaves files at all.

    Args:
        resume_from: the checkpoint that the run goes on from; if its run was logged there, it is gone on with.
    """
    folder = run_directory(trainer)
    if choice != "wandb" or folder is None:
        return
    run_id = uuid.uuid4().hex[:8]
    if resume_from is not None:
        run_id = str(read_checkpoint(resume_from, mmap=True).get(KEY) or run_id)
    name = "/".join(Path(os.path.abspath(folder)).parts[-2:])
    project = os.environ.get("WANDB_PROJECT", PROJECT)
    trainer.loggers = [*trainer.loggers, WandbLog(name=name, save_dir=folder, id=run_id, project=project)]
    callbacks: list[L.Callback] = trainer.callbacks  # type: ignore[attr-defined]
    callbacks.insert(0, KeepsRunId(run_id))


def open_wandb(trainer: L.Trainer) -> None:
    """Begin what :func:`add_wandb` has added, before anything is trained.

    Raises:
        ValueError: as :meth:`WandbLog.open`.
    """
    for logger in trainer.loggers:
        if isinstance(logger, WandbLog):
            logger.open()


def _first_line(error: BaseException) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]
