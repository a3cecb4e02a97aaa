"""How a run's checkpoints reach the disk: whole or not at all, and a full disk does not end the run."""

from __future__ import annotations

import logging
import os
from pathlib import Path
from typing import Any, BinaryIO

import lightning as L
import torch
from lightning.pytorch.plugins.io import TorchCheckpointIO

from vlp.checkpoint.weights import read_checkpoint
from vlp.files import atomic_open
from vlp.progress import waiting
from vlp.versions import package_versions

log = logging.getLogger(__name__)


class AtomicCheckpointIO(TorchCheckpointIO):
    """Writes beside the final name, syncs, renames: a kill at any moment leaves the file before or the new one.

    A save that the disk refuses is reported and the run goes on: only rank 0 writes, and an error there alone would
    leave the other ranks waiting. Until a later save succeeds, no older checkpoint is removed.
    """

    def __init__(self) -> None:
        self.failure: str | None = None  # why the last save failed; None if it did not
        self._kept: list[str] = []  # checkpoints that a save which failed should have replaced

    def save_checkpoint(self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any = None) -> None:
        """:meth:`write` of ``checkpoint`` and the package versions."""
        self.write({**checkpoint, "versions": package_versions()}, path)

    def write(self, content: dict[str, Any], path: str | Path) -> None:
        """Save ``content``; on a full or broken disk set ``failure`` instead of raising."""
        path = Path(path)
        try:
            for stale in path.parent.glob(f".*{path.suffix}.tmp"):  # of a save that was killed
                stale.unlink()
            with waiting(f"saving {path}"), atomic_open(path) as handle:
                _write(content, handle)
        except OSError as error:
            self.failure = f"{path} was not saved: {os.strerror(error.errno) if error.errno else error}"
            log.error("%s. The run goes on, and what was saved before is kept", self.failure)
        else:
            self.failure = None

    def remove_checkpoint(self, path: str | Path) -> None:
        """Remove a checkpoint that another has replaced, once the other is on the disk."""
        self._kept.append(str(path))
        if self.failure is None:
            for name in self._kept:
                super().remove_checkpoint(name)
            self._kept.clear()

    def load_checkpoint(self, path: str | Path, map_location: Any = None, weights_only: bool | None = True) -> Any:
        """The checkpoint on the CPU; what it pickles besides tensors and plain data is never run."""
        return read_checkpoint(path)


def _write(checkpoint: dict[str, Any], handle: BinaryIO) -> None:
    try:
        torch.save(checkpoint, handle)
    except RuntimeError as error:
        # torch's zip writer covers the disk's error with its own.
        if isinstance(error.__context__, OSError):
            raise error.__context__ from None
        raise


def last_save_failure(trainer: L.Trainer) -> str | None:
    """Why the run's last save failed, on the rank that saves; None if it did not."""
    checkpoint_io = trainer.strategy.checkpoint_io
    return checkpoint_io.failure if isinstance(checkpoint_io, AtomicCheckpointIO) else None
