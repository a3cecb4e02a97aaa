"""EPIC in the runs of a baseline: attached before any checkpoint is loaded, logged and saved by a callback."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, ClassVar

import lightning as L

from epic_vlp.attach import attach_epic
from epic_vlp.check import check_epic
from epic_vlp.notices import odd_settings
from epic_vlp.parts import EpicParts, settings_of
from epic_vlp.token_counts import count_tokens
from vlp.baseline import Baseline


class EpicExtension(EpicParts):
    """What a baseline's description holds as its ``extension``."""

    may_change: ClassVar[tuple[str, ...]] = ("teacher_path", "saliency_cache")  # the teacher's SHA-256 is checked

    def check(self, baseline: Baseline, config: Mapping[str, Any]) -> None:
        """:func:`check_epic`."""
        check_epic(baseline, config)

    def settle(self, baseline: Baseline, config: dict[str, Any]) -> None:
        """Write ``epic.append_sep`` into the config of a run, where it is left to the baseline."""
        if "epic" in config:
            config["epic"] = {**config["epic"], "append_sep": settings_of(baseline, config).append_sep}

    def odd_settings(self, baseline: Baseline, config: Mapping[str, Any]) -> Iterator[str]:
        """:func:`odd_settings`."""
        return odd_settings(baseline, config)

    def join(self, baseline: Baseline, model: Any, datamodule: Any, trainer: L.Trainer) -> None:
        """:func:`attach_epic` for a run of ``trainer``; nothing where ``epic.enabled`` is False."""
        attach_epic(baseline, model, datamodule, trainer.global_rank)
        if settings_of(baseline, model.config).enabled:
            trainer.callbacks.append(EpicHooks())  # type: ignore[attr-defined]


class EpicHooks(L.Callback):
    """Places the frozen models, has a running average follow the student, and logs EPIC's metrics.

    Checkpoints hold what an exact resume needs (``epic``).
    """

    def setup(self, trainer: L.Trainer, pl_module: Any, stage: str) -> None:
        # The first batch may be one of Lightning's sanity check or test, which run in inference mode.
        device, processes = trainer.strategy.root_device, trainer.world_size
        pl_module.epic.place_frozen(device)
        count_tokens(pl_module.epic, trainer.datamodule, device, trainer.global_rank, processes)  # type: ignore[attr-defined]

    def on_train_start(self, trainer: L.Trainer, pl_module: Any) -> None:
        pl_module.epic.follow(pl_module)

    def on_train_batch_end(self, trainer: L.Trainer, pl_module: Any, *_: Any) -> None:
        pl_module.epic.follow(pl_module)
        pl_module.epic.log_interval(pl_module)

    def on_validation_epoch_end(self, trainer: L.Trainer, pl_module: Any) -> None:
        pl_module.epic.log_epoch(pl_module)

    def on_test_epoch_end(self, trainer: L.Trainer, pl_module: Any) -> None:
        pl_module.epic.log_epoch(pl_module)

    def on_save_checkpoint(self, trainer: L.Trainer, pl_module: Any, checkpoint: dict[str, Any]) -> None:
        checkpoint["epic"] = pl_module.epic.run_state()

    def on_load_checkpoint(self, trainer: L.Trainer, pl_module: Any, checkpoint: dict[str, Any]) -> None:
        pl_module.epic.load_run_state(checkpoint["epic"], trainer.global_rank)
