"""The description of a baseline with sacred's command line, and the check of its resolved configurations."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from sacred import Experiment

from vlp.baseline import Baseline
from vlp.data.arrow.datamodule import ArrowDataModule
from vlp.sacred_dialect.config import check_run
from vlp.sacred_dialect.task_module import TaskModule


def nothing_more(config: Mapping[str, Any]) -> None:
    """The check of a baseline that refuses nothing of its own."""


@dataclass(frozen=True, kw_only=True)
class SacredBaseline(Baseline):
    """A baseline of Arrow tables and ``python run.py with …``.

    Attributes:
        experiment: its base config and named configs.
        task_data: every task that is built, and the kind of data that it learns from.
        pretraining: items of the official pre-training command: the task, then switches.
        finetuning: the named config of a task's fine-tuning, ``{}`` the task.
        small: named configs of a small model of the same classes, which a CPU trains.
        check_own: refuses what this baseline alone cannot run; a ValueError names the key.
    """

    model: Callable[..., TaskModule]
    datamodule: type[ArrowDataModule]
    experiment: Experiment
    task_data: Mapping[str, str]
    pretraining: tuple[str, ...]
    finetuning: str
    small: tuple[str, ...]
    check_own: Callable[[Mapping[str, Any]], None] = field(default=nothing_more)

    def check(self, config: Mapping[str, Any]) -> None:
        """Refuse what cannot run, before anything is built.

        Raises:
            ValueError: naming the key and what to do.
        """
        check_run(config, self.experiment, self.task_data, self.datamodule.specs)
        self.check_own(config)
        if self.extension is not None:
            self.extension.check(self, config)
