"""What a run leaves behind beside TensorBoard's events: the resolved config, metrics as JSON lines, last.ckpt."""

from __future__ import annotations

import json
import platform
from argparse import Namespace
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

import lightning as L
from lightning.pytorch.callbacks import Checkpoint
from lightning.pytorch.loggers.logger import Logger, rank_zero_experiment
from lightning.pytorch.utilities import rank_zero_only

from vlp.files import write_json


def run_directory(trainer: L.Trainer) -> Path | None:
    """``{log_dir}/{run_name}/version_{k}``; None with ``fast_dev_run``, which leaves nothing behind."""
    return None if trainer.log_dir is None else Path(trainer.log_dir)


@rank_zero_only
def write_run_header(directory: str | Path, config: Mapping[str, Any]) -> None:
    """``config.json``: the resolved config and the versions that ran it."""
    packages = ("torch", "lightning", "transformers", "timm", "torchvision", "pyarrow", "numpy")
    versions = {"python": platform.python_version(), **{name: version(name) for name in packages}}
    write_json(Path(directory) / "config.json", {"config": dict(config), "versions": versions})


class JsonLinesLogger(Logger):
    """``metrics.jsonl``: one line per logged step, ``{"step": …, tag: value, …}``."""

    def __init__(self, directory: str | Path) -> None:
        super().__init__()
        self._path = Path(directory) / "metrics.jsonl"

    @property
    def name(self) -> str:
        return ""

    @property
    def version(self) -> str:
        return ""

    @property
    @rank_zero_experiment
    def experiment(self) -> Path:
        """The file that is appended to."""
        return self._path

    @rank_zero_only
    def log_hyperparams(self, params: dict[str, Any] | Namespace, *args: Any, **kwargs: Any) -> None:
        """The config stands in ``config.json``."""

    @rank_zero_only
    def log_metrics(self, metrics: dict[str, float], step: int | None = None) -> None:
        """Append one line."""
        self._path.parent.mkdir(parents=True, exist_ok=True)
        with open(self._path, "a") as handle:
            handle.write(json.dumps({"step": step, **{k: float(v) for k, v in metrics.items()}}) + "\n")


class LastCheckpoint(Checkpoint):
    """``checkpoints/last.ckpt``: the newest weights, whatever the metric says.

    Lightning's own ``save_last`` skips the validations that did not improve the metric, and the end of a run.
    """

    _saved_step = -1

    def on_validation_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        if not trainer.sanity_checking:
            self._save(trainer)

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self._save(trainer)

    def on_train_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self._save(trainer)

    def _save(self, trainer: L.Trainer) -> None:
        directory = run_directory(trainer)
        if directory is not None and trainer.global_step != self._saved_step:
            self._saved_step = trainer.global_step
            trainer.save_checkpoint(directory / "checkpoints" / "last.ckpt")
