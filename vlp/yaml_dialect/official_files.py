"""What an official run leaves: ``config.yaml``, ``log.txt`` and its checkpoints, written by rank 0.

Source: docs/official/albef.md §1, §8.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import lightning as L
from lightning.pytorch.callbacks import Checkpoint

from vlp.checkpoint.atomic_io import AtomicCheckpointIO
from vlp.data.errors import DataError
from vlp.training.exact_state import epoch_is_complete
from vlp.training.run import or_exit
from vlp.training.run_log import drop_lines_from
from vlp.yaml_dialect.baseline import Script
from vlp.yaml_dialect.epoch_log import append, append_best, epoch_line
from vlp.yaml_dialect.epoch_module import EpochModule
from vlp.yaml_dialect.kept_files import EpochEnd, Files
from vlp.yaml_dialect.keys import flag_of
from vlp.yaml_dialect.yaml_file import write_yaml


class OfficialFiles(Checkpoint):
    """After each whole epoch: its line in log.txt and, as the script has it, its checkpoint.

    A run without selection that max_steps ends leaves the checkpoint of its last epoch, too: commands name that one.

    A Checkpoint, so that its hooks come after the model's, which compute the epoch's means, and before last.ckpt is
    taken, which holds what is best so far.

    Attributes:
        best: the highest value of the script's metric so far; None before the first evaluation.
        best_epoch: its epoch.
        results: the metrics of each split of that epoch, or of the last one where nothing is selected.
        kept: the file name of the checkpoint of that epoch.
    """

    def __init__(self, script: Script, config: Mapping[str, Any]) -> None:
        self.script, self.config, self.folder = script, config, Path(config["output_dir"])
        self.best: float | None = None
        self.best_epoch = 0
        self.results: dict[str, dict[str, float]] = {}
        self.kept = ""

    def state_dict(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in ("best", "best_epoch", "results", "kept")}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        vars(self).update(state_dict)

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        if trainer.is_global_zero:
            or_exit(lambda: write_config(self.folder, self.script, self.config))
            # What was logged after the step that the run goes on from is made again.
            drop_lines_from(self.folder / "metrics.jsonl", trainer.global_step)

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        assert isinstance(pl_module, EpochModule)
        if not epoch_is_complete(trainer):  # max_steps has cut it
            return
        better = self._improves(trainer, pl_module.results)
        files = self.script.keeps(EpochEnd(trainer, pl_module, self.config, better))
        if better and files:
            self.best_epoch, self.results = trainer.current_epoch, dict(pl_module.results)  # which evaluations change
            self.kept = next(iter(files))
        if trainer.is_global_zero:
            write_files(trainer, self.folder, files)
            script, stats = self.script, pl_module.train_stats
            line = epoch_line(stats, pl_module.results, trainer.current_epoch, script.digits, script.results_as_text)
            append(self.folder / "log.txt", line)

    def on_train_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        if self.script.selection is None and trainer.global_step == trainer.max_steps:
            end = EpochEnd(trainer, pl_module, self.config, better=True, ended=True)
            files = self.script.keeps(end)
            self.best_epoch, self.kept = end.epoch, next(iter(files))
            if trainer.is_global_zero:
                write_files(trainer, self.folder, files)
        if self.script.names_best and self.kept and trainer.is_global_zero:
            append_best(self.folder / "log.txt", self.best_epoch)

    def _improves(self, trainer: L.Trainer, results: Mapping[str, Mapping[str, float]]) -> bool:
        """Whether this epoch's checkpoint is kept, the same on every rank.

        Raises:
            DataError: the evaluation does not give the script's metric.
        """
        if self.script.selection is None:
            return True
        split, metric = self.script.selection
        if metric not in results[split]:
            raise DataError(f"the evaluation of {split} has no {metric}, which picks the best epoch: look at its lists")
        value = trainer.strategy.broadcast(float(results[split][metric]))
        if self.best is not None and value <= self.best:
            return False
        self.best = value
        return True


def write_files(trainer: L.Trainer, folder: Path, files: Files) -> None:
    """Write official checkpoints, on rank 0."""
    checkpoint_io = trainer.strategy.checkpoint_io
    assert isinstance(checkpoint_io, AtomicCheckpointIO)
    for name, content in files.items():
        checkpoint_io.write(content, folder / name)


def write_config(folder: Path, script: Script, config: Mapping[str, Any]) -> None:
    """``config.yaml``: the keys of the YAML file as the run has them, which ``--config`` reads again."""
    fields = script.command.schema.model_fields
    run_alone = ("resume_from", "resume_anyway")
    kept = {name: value for name, value in config.items() if not flag_of(fields[name]) and name not in run_alone}
    write_yaml(folder / "config.yaml", kept)
