"""The learning rates of a run: its own after a resume, too, and logged once a step."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import lightning as L
from lightning.pytorch.callbacks import Callback, LearningRateMonitor
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR


class OwnRates(Callback):
    """Rates, weight decays and schedule of a resumed run are those of its configuration from its first step on.

    Lightning restores what the optimiser's groups and the schedule had in the checkpoint. Where the configuration is
    unchanged, both are equal bit by bit.
    """

    def __init__(self) -> None:
        self._configured: list[list[dict[str, Any]]] = []

    def on_fit_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self._configured = [settings_of(optimizer) for optimizer in trainer.optimizers]  # before they are restored

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        for optimizer, groups in zip(trainer.optimizers, self._configured, strict=True):
            for group, settings in zip(optimizer.param_groups, groups, strict=True):
                group.update(settings)
        for config in trainer.lr_scheduler_configs:
            if isinstance(config.scheduler, LambdaLR):
                set_rates(config.scheduler)


def settings_of(optimizer: Optimizer) -> list[dict[str, Any]]:
    """What each group of parameters has beside them."""
    return [{key: value for key, value in group.items() if key != "params"} for group in optimizer.param_groups]


def set_rates(schedule: LambdaLR) -> None:
    """Give the groups, whose ``initial_lr`` counts, the rates of the step that the schedule has reached."""
    groups = schedule.optimizer.param_groups
    schedule.base_lrs = [group["initial_lr"] for group in groups]
    for group, multiplier in zip(groups, schedule.lr_lambdas, strict=True):
        group["lr"] = group["initial_lr"] * multiplier(schedule.last_epoch)
    schedule._last_lr = [group["lr"] for group in groups]


class RateLog(LearningRateMonitor):
    """Lightning's, with one line for the batches of an accumulated step, and the rates kept on the host."""

    def __init__(self) -> None:
        super().__init__(logging_interval="step")
        self._logged_step = -1

    def on_train_batch_start(self, trainer: L.Trainer, *args: Any, **kwargs: Any) -> None:
        if trainer.global_step != self._logged_step:
            self._logged_step = trainer.global_step
            super().on_train_batch_start(trainer, *args, **kwargs)

    def _extract_stats(self, trainer: Any, interval: str) -> dict[str, float]:
        # Lightning would copy each rate to the device of the strategy.
        host = SimpleNamespace(
            optimizers=trainer.optimizers,
            lr_scheduler_configs=trainer.lr_scheduler_configs,
            callback_metrics=trainer.callback_metrics,
            strategy=SimpleNamespace(root_device=None),
        )
        return super()._extract_stats(host, interval)  # type: ignore[arg-type]
