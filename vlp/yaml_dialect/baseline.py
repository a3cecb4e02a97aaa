"""The description of a baseline with YAML files and one script a task."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import lightning as L
from torch import nn

from vlp.baseline import Baseline, Config
from vlp.config.schema import check
from vlp.data.datamodule import RunDataModule
from vlp.training.compile import check_backend
from vlp.training.settings import TrainerSettings
from vlp.training.wandb_log import check_logger
from vlp.yaml_dialect.command import Command
from vlp.yaml_dialect.epoch_module import EpochModule
from vlp.yaml_dialect.kept_files import Keeps
from vlp.yaml_dialect.launch import Processes
from vlp.yaml_dialect.settings import trainer_settings


@dataclass(frozen=True, kw_only=True)
class Script:
    """A script of a baseline: its task.

    Attributes:
        command: its command line.
        task: its name in ``results.json``.
        model: built from a resolved config.
        datamodule: built from a resolved config.
        load: (model, path, evaluate) -> names that the file lacks and that stay as built; ``--checkpoint``.
        keeps: the official checkpoints that the end of an epoch leaves.
        selection: (split, metric) of the evaluation, the higher the better, that picks the best epoch.
        digits: of the training means in log.txt.
        results_as_text: whether log.txt holds the metrics as text of ``digits``.
        names_best: whether log.txt ends with ``best epoch: <n>``.
        callbacks: made from a resolved config, of this script alone.
        protocol: what the metrics are, for ``results.json``.
    """

    command: Command
    task: str
    model: Callable[[Config], EpochModule]
    datamodule: type[RunDataModule]
    load: Callable[[nn.Module, str | Path, bool], list[str]]
    keeps: Keeps
    selection: tuple[str, str] | None = None
    digits: int = 3
    results_as_text: bool = False
    names_best: bool = False
    callbacks: Callable[[Config], Sequence[L.Callback]] = lambda _: ()
    protocol: str

    @property
    def name(self) -> str:
        """Of the file, without its suffix."""
        return self.command.name


@dataclass(frozen=True, kw_only=True)
class YamlBaseline(Baseline):
    """A baseline of list files and ``torchrun <script>.py --config …``; ``model`` and the like are of pre-training.

    Attributes:
        scripts: by the name of their files.
        settings: the engine's settings of a resolved config and the processes that a launcher has started.
    """

    model: Callable[[Config], EpochModule]
    scripts: Mapping[str, Script]
    settings: Callable[[Config, Processes], TrainerSettings] = trainer_settings

    def check(self, script: Script, config: Mapping[str, Any]) -> None:
        """Refuse what cannot run, before anything is built.

        Raises:
            ValueError: naming the key and what to do.
        """
        check(script.command.schema, config)
        check_backend(config["compile"])
        check_logger(config["logger"])
        if self.extension is not None:
            self.extension.check(self, config)
