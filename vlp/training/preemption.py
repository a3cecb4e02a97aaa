"""SIGTERM and SIGUSR1: finish the optimiser step, save last.ckpt, and end with a status on which to requeue."""

from __future__ import annotations

import os
import signal
import time
from types import FrameType
from typing import Any

import lightning as L
from lightning.pytorch.callbacks import Callback

from vlp.training.leave import leave
from vlp.training.run_log import LastCheckpoint

STATUS = os.EX_TEMPFAIL  # 75: not finished, start the same command again
SIGNALS = (signal.SIGTERM, signal.SIGUSR1)


class Preemption(Callback):
    """Stops training after a signal to any rank, on all ranks at the same optimiser step.

    A validation is cut short and repeated by the run that goes on, except between accumulated batches and after the
    last step of ``max_steps``. A second signal ends the process at once, without saving.

    Attributes:
        all_know: between two steps of a distributed run, whether every rank knows that one was asked to stop. The guard
            of a step tells, with the one value that it reads anyway (:class:`vlp.training.finite_guard.FiniteGuard`).
    """

    def __init__(self, last: LastCheckpoint) -> None:
        self.all_know = False
        self._last = last
        self._process = -1
        self._asked_at: float | None = None

    @property
    def asked(self) -> bool:
        """Whether this process has got a signal."""
        return self._asked_at is not None

    # Signals ---------------------------------------------------------------------------------------------

    def on_sanity_check_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self._listen(trainer)

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self._listen(trainer)
        if trainer.received_sigterm:  # by Lightning's handler, before ours took its place
            self._asked_at = time.monotonic()
        self._stop_if_asked(trainer)

    def _listen(self, trainer: L.Trainer) -> None:
        """Take the place of Lightning's handlers, which end a run with status 0; its teardown puts all back."""
        self._process = os.getpid()
        children = getattr(trainer.strategy.launcher, "procs", [])

        def handle(number: int, frame: FrameType | None) -> None:
            if os.getpid() != self._process:
                return  # a loader worker
            now = time.monotonic()
            if self._asked_at is None:
                self._asked_at = now
                _say(f"{signal.Signals(number).name}: finishing the step, then saving; a second signal ends at once")
            elif now - self._asked_at > 1:  # sooner, it is the first one on another way, such as through mpirun
                _say(f"{signal.Signals(number).name} again: ending without saving")
                for child in children:
                    child.kill()
                os._exit(128 + number)

        for number in SIGNALS:
            signal.signal(number, handle)
        # Of several ranks Lightning asks before every batch what its own handlers have got: a GPU's host waits for it.
        trainer.fit_loop.epoch_loop._broadcast_sigterm_tensor = lambda: None  # type: ignore[method-assign]

    # Places to stop --------------------------------------------------------------------------------------

    def on_train_batch_start(
        self, trainer: L.Trainer, pl_module: L.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        if batch_idx % trainer.accumulate_grad_batches == 0 and (self.all_know or trainer.world_size == 1):
            self._stop_if_asked(trainer)

    def on_validation_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        batches = trainer.fit_loop.epoch_loop.batch_progress
        accumulating = batches.current.completed % trainer.accumulate_grad_batches and not batches.is_last_batch
        if not trainer.sanity_checking and not accumulating and trainer.global_step != trainer.max_steps:
            self._stop_if_asked(trainer)

    def on_validation_batch_start(
        self, trainer: L.Trainer, pl_module: L.LightningModule, batch: Any, batch_idx: int, dataloader_idx: int = 0
    ) -> None:
        self.on_validation_start(trainer, pl_module)

    def _stop_if_asked(self, trainer: L.Trainer) -> None:
        if trainer.strategy.reduce_boolean_decision(self.asked, all=False):
            self._last.save_if_new(trainer)
            if trainer.is_global_zero:
                print(
                    f"stopped by a signal after step {trainer.global_step}; status {STATUS}: start it again", flush=True
                )
            leave(trainer, STATUS)


def _say(text: str) -> None:
    os.write(1, f"{text}\n".encode())  # print is not safe in a handler
