"""What a run leaves behind beside TensorBoard's events: the resolved config, metrics as JSON lines, last.ckpt."""

from __future__ import annotations

import json
import logging
import os
import tempfile
from argparse import Namespace
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import lightning as L
from lightning.pytorch.callbacks import Checkpoint, ModelCheckpoint
from lightning.pytorch.loggers.logger import Logger, rank_zero_experiment
from lightning.pytorch.utilities import rank_zero_only

from vlp.files import atomic_open, regular, regular_if_there, write_json
from vlp.versions import package_versions

log = logging.getLogger(__name__)

HEADER = "config.json"
_PROBE = 1 << 16  # bytes; the first files of a run are smaller
_LONGEST_NAME = 255  # bytes, on every usual file system


def run_directory(trainer: L.Trainer) -> Path | None:
    """``{log_dir}/{run_name}/version_{k}``; None with ``fast_dev_run``, which leaves nothing behind."""
    return None if trainer.log_dir is None else Path(trainer.log_dir)


@rank_zero_only
def check_log_dir(log_dir: str | Path, run_name: str, key: str = "log_dir") -> None:
    """Refuse a ``log_dir`` where a run's folder cannot be made, before anything is loaded; leaves nothing behind.

    ``key`` is the configuration's name of it.

    Raises:
        OSError: it is a file or below one, may not be written, or its disk is full; names ``key``.
    """
    folder = Path(log_dir, run_name).absolute()
    if too_long := [part for part in folder.parts if len(os.fsencode(part)) > _LONGEST_NAME]:
        raise OSError(f"{key}={log_dir}: the name {too_long[0][:20]}… is too long for a folder")
    while not os.path.lexists(folder):
        folder = folder.parent
    if not folder.is_dir():
        raise NotADirectoryError(f"{key}={log_dir}: {folder} is no folder; give a folder that can be written")
    try:
        with tempfile.TemporaryFile(dir=folder) as probe:
            probe.write(bytes(_PROBE))
            probe.flush()
            os.fsync(probe.fileno())
    except OSError as error:
        reason = error.strerror or error
        raise OSError(f"{key}={log_dir}: {folder} cannot be written ({reason}); give another folder") from error


@rank_zero_only
def write_run_header(
    directory: str | Path,
    config: Mapping[str, Any],
    resumed_from: Mapping[str, Any] | None = None,
    name: str = HEADER,
) -> None:
    """``config.json``, or ``name``: the resolved config, the versions that ran it, the checkpoint it goes on from."""
    content = {"config": dict(config), "versions": package_versions(), "resumed_from": resumed_from}
    write_json(Path(directory) / name, content)


class JsonLinesLogger(Logger):
    """``metrics.jsonl``: one line per logged step, ``{"step": …, tag: value, …}``.

    Lines that a full disk refuses are kept and written with the next ones.
    """

    def __init__(self, directory: str | Path) -> None:
        super().__init__()
        self._path = Path(directory) / "metrics.jsonl"
        self._unwritten: list[str] = []

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
        self._unwritten.append(json.dumps({"step": step, **{k: float(v) for k, v in metrics.items()}}) + "\n")
        self._path.parent.mkdir(parents=True, exist_ok=True)
        complete = self._path.stat().st_size if self._path.exists() else 0
        try:
            with open(regular_if_there(self._path), "a") as handle:
                handle.writelines(self._unwritten)
        except OSError as error:
            if len(self._unwritten) == 1:
                log.error("%s takes no more lines: %s. The run goes on", self._path, error.strerror or error)
            if self._path.is_file():
                os.truncate(self._path, complete)  # no half line stays
        else:
            self._unwritten.clear()


def drop_lines_from(path: Path, step: int) -> None:
    """Take the lines of ``step`` and later ones, and half a line, out of a ``metrics.jsonl``, atomically."""
    if not path.exists():
        return
    lines = regular(path).read_bytes().splitlines(keepends=True)
    kept = [line for line in lines if 0 <= _step_of(line) < step]
    if len(kept) < len(lines):
        with atomic_open(path) as handle:
            handle.writelines(kept)


def _step_of(line: bytes) -> int:
    try:
        return int(json.loads(line)["step"])
    except (ValueError, TypeError, KeyError):
        return -1


def last_logged_step(path: Path) -> int:
    """The step of the last whole line of a ``metrics.jsonl``; -1 where none can be read."""
    try:
        with open(regular(path), "rb") as handle:
            handle.seek(max(0, path.stat().st_size - (1 << 16)))
            lines = handle.read().splitlines()
    except OSError:
        return -1
    return next((step for line in reversed(lines) if (step := _step_of(line)) >= 0), -1)


class BestCheckpoint(ModelCheckpoint):
    """Lightning's, but a resumed run knows the best score so far although its folder is a new one."""

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        super().load_state_dict({**state_dict, "dirpath": self.dirpath})


class LastCheckpoint(Checkpoint):
    """``checkpoints/last.ckpt``: the newest weights, whatever the metric says.

    Written between two optimiser steps: after validations, every ``every_n_steps`` steps (0: not for that), at the end
    of every epoch and of the run. Lightning's own ``save_last`` skips the validations that did not improve the metric,
    and the end of a run.
    """

    def __init__(self, every_n_steps: int = 0) -> None:
        self.every_n_steps = every_n_steps
        self._saved_step = 0
        self._validated = False
        self._of_epoch: dict[str, Any] | None = None

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self._saved_step = trainer.global_step

    def on_validation_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self._validated = not trainer.sanity_checking

    def on_train_batch_start(
        self, trainer: L.Trainer, pl_module: L.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        # What came before is logged by now; in the middle of an accumulation there are gradients that are not saved.
        if batch_idx == 0 or batch_idx % trainer.accumulate_grad_batches:
            return
        if self._validated or (self.every_n_steps and trainer.global_step % self.every_n_steps == 0):
            self.save_if_new(trainer)

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        # The epoch's means are logged only after this hook. A run that was killed in between would never log them.
        if run_directory(trainer) is not None:
            self._saved_step, self._validated = trainer.global_step, False
            self._of_epoch = trainer._checkpoint_connector.dump_checkpoint(weights_only=False)

    def on_train_epoch_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self._write_of_epoch(trainer)

    def on_train_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self._write_of_epoch(trainer)

    def _write_of_epoch(self, trainer: L.Trainer) -> None:
        if self._of_epoch is not None:
            trainer.strategy.save_checkpoint(self._of_epoch, last_checkpoint(trainer))
            trainer.strategy.barrier()
            self._of_epoch = None

    def save_if_new(self, trainer: L.Trainer) -> None:
        """Save unless there is a checkpoint of this step."""
        if self._validated or trainer.global_step != self._saved_step:
            self.save(trainer)

    def save(self, trainer: L.Trainer) -> None:
        """Save now; every rank must call it."""
        if run_directory(trainer) is not None:
            self._saved_step, self._validated = trainer.global_step, False
            trainer.save_checkpoint(last_checkpoint(trainer), weights_only=False)


def last_checkpoint(trainer: L.Trainer) -> Path:
    """The path of ``last.ckpt`` in the run's folder."""
    directory = run_directory(trainer)
    assert directory is not None
    return directory / "checkpoints" / "last.ckpt"
