"""What a checkpoint holds beside weights and optimiser so that a resumed run continues bit by bit.

Lightning restores weights, optimiser, schedule, loss scaler and callbacks; the data module restores its position. This
callback adds every rank's random states and running means, and makes Lightning's loops go on at the right place.
"""

from __future__ import annotations

import logging
from typing import Any

import lightning as L
import torch
from lightning.pytorch.callbacks import Callback
from torch import Tensor, nn
from torchmetrics import Metric

from vlp.data.datamodule import RunDataModule
from vlp.distributed import gathered
from vlp.training.changed_config import DATA
from vlp.training.rng import random_state, set_random_state

log = logging.getLogger(__name__)


class ExactState(Callback):
    """Saves under ``ranks`` one entry a rank, and restores it; tells the data module what was consumed.

    A baseline's running means over an epoch are metrics named ``train_…``; its data are a
    :class:`~vlp.data.datamodule.RunDataModule`.
    """

    def __init__(self) -> None:
        self._resumed: dict[str, Any] | None = None
        self._before_validation: dict[str, Any] | None = None
        self._cut_means: dict[str, Any] | None = None

    # Saving ----------------------------------------------------------------------------------------------

    def on_save_checkpoint(self, trainer: L.Trainer, pl_module: L.LightningModule, checkpoint: dict[str, Any]) -> None:
        validating = self._before_validation is not None
        place_loops(checkpoint["loops"]["fit_loop"], validating, epoch_is_complete(trainer))
        # A validation that is cut short is repeated from its start.
        random = self._before_validation or random_state(trainer.strategy.root_device)
        means = running_means(pl_module) if self._cut_means is None else self._cut_means
        if trainer.is_global_zero:  # whose checkpoint is written
            checkpoint[DATA] = trainer.datamodule.fed  # type: ignore[attr-defined]
        checkpoint["ranks"] = gathered({"random_state": random, "running_means": means})

    # Going on --------------------------------------------------------------------------------------------

    def on_load_checkpoint(self, trainer: L.Trainer, pl_module: L.LightningModule, checkpoint: dict[str, Any]) -> None:
        self._resumed = checkpoint["ranks"][trainer.global_rank]

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        if self._resumed is not None:
            set_running_means(pl_module, self._resumed["running_means"])
            count_batches(trainer)
        epochs = trainer.fit_loop.epoch_progress.current
        if epochs.ready == epochs.completed:
            # Between two epochs there is nothing to finish: with max_steps Lightning would end the next one at once.
            trainer.fit_loop.epoch_loop.restarting = False

    def on_train_batch_start(
        self, trainer: L.Trainer, pl_module: L.LightningModule, batch: dict[str, Any], batch_idx: int
    ) -> None:
        if trainer.ckpt_path:  # Lightning derives it from the batches of a step, which may be others now
            trainer.fit_loop.epoch_loop._batches_that_stepped = trainer.global_step
        self._go_on_drawing(trainer)

    def on_validation_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        if not trainer.sanity_checking:
            self._go_on_drawing(trainer)
            self._before_validation = random_state(trainer.strategy.root_device)

    def on_validation_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self._before_validation = None

    def _go_on_drawing(self, trainer: L.Trainer) -> None:
        # Not earlier: what starts a run (loaders) may draw too.
        if self._resumed is not None:
            set_random_state(self._resumed["random_state"], trainer.strategy.root_device)
            self._resumed = None

    # The training data -----------------------------------------------------------------------------------------

    def on_train_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: dict[str, Any], batch_idx: int
    ) -> None:
        trainer.datamodule.consumed(batch)  # type: ignore[attr-defined]

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        if epoch_is_complete(trainer):
            # Workers of a resumed run fetch before Lightning names the epoch.
            trainer.datamodule.start_epoch(trainer.current_epoch + 1)  # type: ignore[attr-defined]
        else:
            self._cut_means = running_means(pl_module)  # before the module logs and resets them


def count_batches(trainer: L.Trainer) -> None:
    """Let Lightning's count of this epoch's batches be that of what is done, in batches of today's size.

    Nothing changes unless the run's batches had another size.
    """
    datamodule: RunDataModule = trainer.datamodule  # type: ignore[attr-defined]
    batches = datamodule.batches_done(trainer.train_dataloader)
    if batches == 0:  # between two epochs
        return
    done, of_a_step = trainer.fit_loop.epoch_loop.batch_progress.current, trainer.accumulate_grad_batches
    more = batches - done.ready
    for count in ("ready", "started", "processed", "completed"):
        setattr(done, count, getattr(done, count) + more)
    if done.ready % of_a_step and done.ready < trainer.num_training_batches:
        first = of_a_step - done.ready % of_a_step
        log.warning("[resume] the first step is made of %d batches instead of %d", first, of_a_step)


def epoch_is_complete(trainer: L.Trainer) -> bool:
    """Whether every batch of the current epoch has been trained; not if ``max_steps`` has cut it."""
    return trainer.fit_loop.epoch_loop.batch_progress.current.completed >= trainer.num_training_batches


def place_loops(loops: dict[str, Any], validating: bool, epoch_complete: bool) -> None:
    """Rewrite Lightning's saved loop counters so that its restart does what the unbroken run does next.

    By itself it restarts exactly from the hooks ``on_train_batch_end`` (where metrics of the step are not logged yet)
    and ``on_validation_end`` only. The other places where we save are put into terms of those two.
    """
    epochs, batches = loops["epoch_progress"], loops["epoch_loop.batch_progress"]
    validation = loops["epoch_loop.val_loop.batch_progress"]
    done = validation["total"]["completed"]
    validation["total"].update(ready=done, started=done, processed=done)
    if validating:
        # One validation batch begun, none of this validation done: Lightning starts it again.
        done -= validation["current"]["completed"]
        validation["total"] = {"ready": done + 1, "started": done + 1, "processed": done, "completed": done}
        validation["current"] = dict.fromkeys(validation["current"], 0)
    elif epochs["current"]["processed"] == epochs["current"]["ready"]:  # in on_train_epoch_end
        for counter in (epochs["total"], epochs["current"]):
            if epoch_complete:
                counter["completed"] = counter["processed"]
            else:
                counter["processed"] = counter["completed"]
        if not epoch_complete:
            _after_batch(loops)
    elif batches["current"]["started"] < batches["current"]["ready"]:  # in on_train_batch_start of the next batch
        _after_batch(loops)


def _after_batch(loops: dict[str, Any]) -> None:
    """As if saved in ``on_train_batch_end`` of the last batch that is done; a validation due after it is done too."""
    batches = loops["epoch_loop.batch_progress"]
    for counter in (batches["total"], batches["current"]):
        done = counter["completed"]
        counter.update(ready=done, started=done, processed=done, completed=done - 1)
    batches["is_last_batch"] = False
    loops["epoch_loop.state_dict"]["_batches_that_stepped"] -= 1


def running_means(module: nn.Module) -> dict[str, dict[str, Tensor]]:
    """States of the metrics named ``train_…``, on the CPU."""
    return {
        name: {state: torch.as_tensor(value).cpu() for state, value in metric.metric_state.items()}
        for name, metric in _train_metrics(module).items()
    }


def set_running_means(module: nn.Module, states: dict[str, dict[str, Tensor]]) -> None:
    """Go on from what :func:`running_means` gave; metrics that it does not name start empty."""
    for name, metric in _train_metrics(module).items():
        for state, value in states.get(name, {}).items():
            setattr(metric, state, value.to(metric.device))


def _train_metrics(module: nn.Module) -> dict[str, Metric]:
    children = module.named_children()
    return {name: child for name, child in children if isinstance(child, Metric) and name.startswith("train_")}
