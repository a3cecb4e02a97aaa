"""Going on from the official checkpoint of an epoch (``--resume``).

Source: docs/official/albef.md §8.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import lightning as L
from torch.optim.lr_scheduler import LambdaLR

from vlp.checkpoint.weights import (
    WeightsError,
    check_finite,
    check_tensors,
    named_tensors,
    read_checkpoint,
    tensors_of,
)
from vlp.training.learning_rates import set_rates

PARTS: dict[str, type] = {"model": dict, "optimizer": dict, "epoch": int}


def read_official(path: str | Path, epochs: int) -> dict[str, Any]:
    """An official checkpoint to go on from, in a run of ``epochs`` epochs; of a complete one, status 0 and one line.

    Raises:
        WeightsError: unreadable, unsafe, or none of an official run.
        ValueError: it has done more epochs than there are.
    """
    content = read_checkpoint(path)
    if lacking := [key for key, kind in PARTS.items() if not isinstance(content.get(key), kind)]:
        raise WeightsError(
            f"{path}: lacks {', '.join(lacking)}: --resume needs a checkpoint_XX.pth of pre-training; without it "
            "--checkpoint starts a new run from the weights, and resume_from goes on from a last.ckpt"
        )
    done = content["epoch"] + 1
    if done > epochs:
        raise ValueError(f"schedular.epochs={epochs}, but --checkpoint {path} has done {done} epochs: give more")
    if done == epochs:
        print(f"{path}: this run is complete, schedular.epochs={epochs}", flush=True)
        sys.exit(0)
    return content


class AfterEpoch(L.Callback):
    """Starts training after the epoch of an official checkpoint, with its weights and its optimiser.

    Its random states are not in the file: dropout and masks differ from the unbroken run, as officially.
    """

    def __init__(self, path: str | Path, content: dict[str, Any]) -> None:
        self.path, self.content = path, content

    def load_weights(self, model: L.LightningModule) -> None:
        """Load the model's tensors, all of them.

        Raises:
            WeightsError: of another model or size, or with numbers that are none.
        """
        state, own = tensors_of(self.path, self.content), model.state_dict()
        if different := sorted(state.keys() ^ own.keys()):
            side = "has" if different[0] in state else "lacks"
            raise WeightsError(f"{self.path} is of another model: it {side} {different[0]} ({len(different)} differ)")
        check_tensors(self.path, state, own, "--resume needs the checkpoint of a run of the same configuration")
        check_finite(self.path, named_tensors(self.content["optimizer"], "optimizer"))
        model.load_state_dict(state)

    def on_fit_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        done = self.content["epoch"] + 1
        datamodule: Any = trainer.datamodule  # type: ignore[attr-defined]
        steps = done * len(datamodule.train_dataloader())
        self._load_optimizer(trainer)
        _go_to(trainer, done, steps)
        sampler = datamodule.new_train_sampler(trainer.world_size, rank=0)
        sampler.set_epoch(done)
        datamodule.load_state_dict(sampler.state_dict())
        self.content = {"epoch": self.content["epoch"]}  # the tensors are in their places

    def _load_optimizer(self, trainer: L.Trainer) -> None:
        optimizer, saved = trainer.optimizers[0], self.content["optimizer"]
        theirs, ours = _sizes(saved.get("param_groups", ())), _sizes(optimizer.param_groups)
        if theirs != ours:
            raise WeightsError(f"{self.path}: its optimiser has {theirs} tensors in its groups, this run's {ours}")
        optimizer.load_state_dict(saved)


def _sizes(groups: Iterable[Mapping[str, Any]]) -> list[int]:
    return [len(group["params"]) for group in groups]


def _go_to(trainer: L.Trainer, epochs: int, steps: int) -> None:
    """Let Lightning and the schedule be where ``epochs`` epochs, in all ``steps`` steps, are done."""
    progress = trainer.fit_loop.epoch_progress
    counter: Any
    for counter in (progress.total, progress.current):
        counter.ready = counter.started = counter.processed = counter.completed = epochs
    loop = trainer.fit_loop.epoch_loop
    step = loop.automatic_optimization.optim_progress.optimizer.step.total
    step.ready = step.completed = steps
    loop._batches_that_stepped = steps
    for config in trainer.lr_scheduler_configs:
        schedule = config.scheduler
        assert isinstance(schedule, LambdaLR)
        schedule.last_epoch, schedule._step_count = steps, steps + 1
        set_rates(schedule)
