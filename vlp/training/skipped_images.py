"""Say how many training images could not be read, while the run goes on and when it ends."""

from __future__ import annotations

from typing import Any

import lightning as L
import torch
from lightning.pytorch.callbacks import Callback

from vlp.data.read_guard import Guarded
from vlp.distributed import sum_across_ranks

TAG = "data/skipped/"


class SkippedImages(Callback):
    """Logs ``data/skipped/{dataset}``, over all ranks, once there are any, and prints their share when training ends.

    The counts are those of the loaders' :class:`~vlp.data.read_guard.ReadGuard`, since this process started; images
    that were read ahead and false images count.
    """

    _logged_step = 0

    def on_train_batch_end(self, trainer: L.Trainer, pl_module: L.LightningModule, *_: Any) -> None:
        step = trainer.global_step
        if step % trainer.log_every_n_steps == 0 and step != self._logged_step:  # type: ignore[attr-defined]
            self._logged_step = step
            for name, (_reads, skipped) in counts(trainer, pl_module.device).items():
                if skipped:
                    # On the host, for the progress bar reads it after every batch.
                    pl_module.log(TAG + name, torch.tensor(float(skipped)), prog_bar=True)

    def on_train_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        parts = [
            f"{skipped:,} of {reads:,} images ({name})"
            for name, (reads, skipped) in counts(trainer, pl_module.device).items()
            if skipped
        ]
        if parts and trainer.is_global_zero:
            print(f"skipped {', '.join(parts)}: they could not be read, the next ones were taken", flush=True)


def counts(trainer: L.Trainer, device: torch.device) -> dict[str, tuple[int, int]]:
    """Images read and images skipped of every training set, over all ranks; every rank must call it."""
    dataset = getattr(trainer.train_dataloader, "dataset", None)
    if not isinstance(dataset, Guarded):
        return {}
    guards = dataset.guards
    rows = torch.tensor([(guard.reads, guard.failures) for guard in guards.values()], device=device)
    sums = sum_across_ranks(rows).tolist()
    return {name: (reads, failures) for name, (reads, failures) in zip(guards, sums, strict=True)}
