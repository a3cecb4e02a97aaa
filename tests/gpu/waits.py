"""Whether the host waits for the GPU within a training step."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import lightning as L
import torch
from lightning.fabric.utilities import move_data_to_device
from lightning.pytorch.callbacks import Callback
from torch.utils.data import DataLoader

from benchmarks.arrow_steps import ArrowSteps
from benchmarks.baseline import Batch
from tests.gpu.numbers import LENGTHS
from vlp.training.finite_guard import FiniteGuard

WARM_UP = 2  # steps in which torch fetches its libraries' handles, workspaces and kernels


@contextmanager
def no_waits(device: str) -> Iterator[None]:
    """On CUDA whatever waits for the device raises; on a CPU nothing waits."""
    if device != "cuda":
        yield
        return
    torch.cuda.set_sync_debug_mode("error")
    try:
        yield
    finally:
        torch.cuda.set_sync_debug_mode("default")


def pinned(steps: ArrowSteps, device: str) -> Batch:
    """A batch of the baseline's collation in the host's memory, as a loader gives it."""
    here, steps.device = steps.device, "cpu"
    try:
        batch = steps.batch(LENGTHS)
    finally:
        steps.device = here
    batches: Any = [batch]
    return next(iter(DataLoader(batches, batch_size=None, pin_memory=device == "cuda")))


def step_without_waits(steps: ArrowSteps, variant: str) -> float:
    """The loss of a step in train mode whose batch is moved, and forward and backward computed, without a wait."""
    chosen, device = steps.variant(variant), torch.device(steps.device)
    trained = [root for name, roots in chosen.parts.items() if name != "teacher" for root in roots]
    for root in (steps.student, *trained):
        root.train().zero_grad(set_to_none=True)
    for i in range(WARM_UP + 1):
        batch = pinned(steps, steps.device)
        with no_waits(steps.device if i == WARM_UP else "cpu"):
            loss = chosen.step(move_data_to_device(batch, device))
            loss.backward()
    return float(loss.detach())


class NoWaits(Callback):
    """After the first steps whatever waits in a batch of a Trainer raises, but in one that ends an optimiser step.

    From the batch's fetching to what Lightning does after the last callback. A step waits for its guard's one value.
    """

    def __init__(self) -> None:
        self.watched = 0  # batches

    def on_train_start(self, trainer: L.Trainer, pl_module: Any) -> None:
        loop: Any = trainer.fit_loop.epoch_loop
        loop.advance = self._watching(loop.advance, trainer)

    def _watching(self, advance: Callable[..., None], trainer: L.Trainer) -> Callable[..., None]:
        device = trainer.strategy.root_device.type

        def watching(*arguments: Any) -> None:
            watch = trainer.global_step >= WARM_UP and self._is_watched(trainer)
            self.watched += watch
            with no_waits(device if watch else "cpu"):
                advance(*arguments)

        return watching

    def _is_watched(self, trainer: L.Trainer) -> bool:
        number = trainer.fit_loop.epoch_loop.batch_progress.current.ready
        return (number + 1) % trainer.accumulate_grad_batches != 0


class NoWaitsBesideTheGuard(NoWaits):
    """The same of every batch, the guard's one value apart: where each batch is a step of its own."""

    def on_train_start(self, trainer: L.Trainer, pl_module: Any) -> None:
        super().on_train_start(trainer, pl_module)
        (guard,) = (each for each in trainer.callbacks if isinstance(each, FiniteGuard))  # type: ignore[attr-defined]
        hook: Any = guard.on_before_optimizer_step

        def spared(*arguments: Any) -> None:
            before = torch.cuda.get_sync_debug_mode() if torch.cuda.is_available() else 0
            if before:
                torch.cuda.set_sync_debug_mode("default")
            hook(*arguments)
            if before:
                torch.cuda.set_sync_debug_mode(before)

        setattr(guard, "on_before_optimizer_step", spared)  # noqa: B010 - a method

    def _is_watched(self, trainer: L.Trainer) -> bool:
        return True
