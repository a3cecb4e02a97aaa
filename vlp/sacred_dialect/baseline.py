"""The description of a baseline with sacred's command line, and the check of its resolved configurations."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from sacred import Experiment

from vlp.baseline import REGISTRY, Baseline, get_baseline
from vlp.config.schema import check
from vlp.data.arrow.datamodule import ArrowDataModule
from vlp.sacred_dialect.keys import SacredKeys
from vlp.sacred_dialect.task_module import TaskModule
from vlp.training.compile import check_backend
from vlp.training.wandb_log import check_logger


@dataclass(frozen=True, kw_only=True)
class SacredBaseline(Baseline):
    """A baseline of Arrow tables and ``python run.py with …``.

    Attributes:
        experiment: its base config and named configs.
        schema: what every key may be.
        pretraining: items of the official pre-training command: the task, then switches.
        finetuning: the named config of a task's fine-tuning, ``{}`` the task.
        small: named configs of a small model of the same classes, which a CPU trains.
    """

    model: Callable[..., TaskModule]
    datamodule: type[ArrowDataModule]
    experiment: Experiment
    schema: type[SacredKeys]
    pretraining: tuple[str, ...]
    finetuning: str
    small: tuple[str, ...]

    def check(self, config: Mapping[str, Any]) -> None:
        """Refuse what cannot run, before anything is built.

        Raises:
            ValueError: naming the key and what to do.
        """
        check(self.schema, config)
        check_backend(config["compile"])
        check_logger(config["logger"])
        if self.extension is not None:
            self.extension.check(self, config)


def sacred_baselines() -> dict[str, SacredBaseline]:
    """Those of the registry with this command line, by name."""
    described = {name: get_baseline(name) for name in REGISTRY}
    return {name: each for name, each in described.items() if isinstance(each, SacredBaseline)}
