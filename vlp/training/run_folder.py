"""The folder of a run belongs to one run: rank 0 owns it, and where it may not, all ranks end."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

import lightning as L
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.loggers.logger import DummyLogger

from vlp.owner import Claim, HeldError, own
from vlp.training.event_log import EventLog
from vlp.training.leave import leave
from vlp.training.run_log import JsonLinesLogger, run_directory


def claim_of(output_dir: str | Path) -> Claim:
    """That of a run whose folder is ``output_dir``."""
    return Claim(Path(output_dir), instead="give another output_dir")


class RunFolder(Callback):
    """Owns the folder from before the first byte is written to the end of the process.

    A numbered folder is a new one: where two runs count the same number, one of them counts again.
    """

    def __init__(self, further: Sequence[Claim] = ()) -> None:
        """``further`` are claims on files beside the folder."""
        self._refused, self._further = False, further

    def take(self, trainer: L.Trainer, log: EventLog) -> None:
        """Own the folder of ``log``, on rank 0, and give ``trainer`` the log of metrics there.

        Raises:
            HeldError: another run owns it and no other rank waits for this one; else all end once they meet.
        """
        if run_directory(trainer) is None:
            return
        if trainer.is_global_zero:
            try:
                for claim in self._further:
                    own(claim)
                _own(log)
            except HeldError as error:
                if not _is_waited_for(trainer):
                    raise
                print(f"error: {error}", file=sys.stderr, flush=True)
                self._refused = True
                trainer.loggers = [DummyLogger()]  # nothing is written until the others know
                return
        trainer.loggers = [*trainer.loggers, JsonLinesLogger(log.log_dir)]

    def setup(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        if trainer.strategy.broadcast(self._refused):
            leave(trainer, 1)


def _own(log: EventLog) -> None:
    if not log.is_numbered:
        own(claim_of(log.log_dir))
        return
    while True:
        folder = Path(log.log_dir)
        try:
            own(Claim(folder, instead="start again"), new=True)
        except FileExistsError:
            log.count_again()
            if Path(log.log_dir) == folder:  # a file has its name
                raise
        else:
            return


def _is_waited_for(trainer: L.Trainer) -> bool:
    """Whether ranks run that rank 0 does not start itself."""
    environment = trainer._accelerator_connector.cluster_environment
    external = trainer.num_nodes > 1 or environment.creates_processes_externally
    return trainer.world_size > 1 and external
