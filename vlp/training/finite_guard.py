"""Stop on a loss or gradient that is not finite, before it reaches the weights."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import lightning as L
import torch
from lightning.pytorch.callbacks import Callback
from torch import Tensor, nn

from vlp.distributed import gathered, highest_of_ranks
from vlp.files import write_json
from vlp.training.leave import leave
from vlp.training.preemption import Preemption
from vlp.training.run_log import run_directory

ADVICE = "Look at the samples, lower the learning rate, or take precision=bf16 or 32 instead of 16"


class FiniteGuard(Callback):
    """Before every optimiser step: the losses of its batches and the gradients are finite on every rank, or all stop.

    All of it is one value, the only one of a step that a GPU's host waits for; it also tells ``preemption`` whether any
    rank has got a signal.

    The module leaves the losses of each batch, detached and as they enter the sum, in ``step_losses``. With a loss
    scaler (``precision=16``) the gradients are the scaler's affair: it skips steps whose scaled gradients overflow.
    """

    def __init__(self, preemption: Preemption | None = None) -> None:
        self._preemption = preemption
        self._samples: list[dict[str, Any]] = []
        self._losses: list[dict[str, Tensor]] = []

    def on_train_batch_start(
        self, trainer: L.Trainer, pl_module: L.LightningModule, batch: dict[str, Any], batch_idx: int
    ) -> None:
        if batch_idx % trainer.accumulate_grad_batches == 0:
            self._samples, self._losses = [], []
        self._samples.append(samples_of(batch))

    def on_before_backward(self, trainer: L.Trainer, pl_module: L.LightningModule, loss: Tensor) -> None:
        self._losses.append(pl_module.step_losses)  # type: ignore[arg-type]

    def on_before_optimizer_step(
        self, trainer: L.Trainer, pl_module: L.LightningModule, optimizer: torch.optim.Optimizer
    ) -> None:
        scaled = getattr(trainer.precision_plugin, "scaler", None) is not None
        values = torch.stack([value.float() for losses in self._losses for value in losses.values()])
        finite = values.isfinite().all()
        if not scaled:
            finite = finite & all_finite([p.grad for p in pl_module.parameters() if p.grad is not None])
        asked = self._preemption is not None and self._preemption.asked
        # Wrong numbers count more: they end the run without saving.
        worst = highest_of_ranks(2 * ~finite + int(asked))
        if worst >= 2:
            self._stop(trainer, None if finite else self._report(trainer, pl_module))
        if worst == 1 and self._preemption is not None:
            self._preemption.all_know = True

    def on_save_checkpoint(self, trainer: L.Trainer, pl_module: L.LightningModule, checkpoint: dict[str, Any]) -> None:
        # Finite gradients times a learning rate that is far too high can still overflow.
        if highest_of_ranks(~all_finite([p.detach() for p in pl_module.parameters()])):
            message = f"error: the weights are not finite after step {trainer.global_step}: not saved. {ADVICE}"
            leave(trainer, message if trainer.is_global_zero else 1)

    def _report(self, trainer: L.Trainer, pl_module: nn.Module) -> dict[str, Any]:
        batches = [
            {"losses": {name: _plain(value) for name, value in losses.items()}, "samples": samples}
            for losses, samples in zip(self._losses, self._samples, strict=True)
        ]
        grads = ((name, p.grad) for name, p in pl_module.named_parameters())
        wrong = [name for name, grad in grads if grad is not None and not bool(grad.isfinite().all())]
        step = trainer.global_step + 1
        return {"step": step, "rank": trainer.global_rank, "batches": batches, "gradients_not_finite": wrong}

    def _stop(self, trainer: L.Trainer, report: dict[str, Any] | None) -> None:
        directory = run_directory(trainer)
        path = None if directory is None else directory / f"nonfinite_rank{trainer.global_rank}.json"
        if report is not None and path is not None:
            write_json(path, report)
        reports = gathered(report)
        if not trainer.is_global_zero:
            leave(trainer, 1)
        reports = [each for each in reports if each is not None]
        # One rank's loss makes the gradients of all what they are.
        reports = [each for each in reports if _wrong_batches(each)] or reports
        found = "\n".join(describe(each) for each in reports)
        where = f" All of it is in {directory}/nonfinite_rank*.json." if directory else ""
        leave(
            trainer,
            f"error: {found}\nThe step was not made and nothing was saved after it.{where} {ADVICE}",
        )


def samples_of(batch: Mapping[str, Any]) -> dict[str, Any]:
    """What names the samples of a batch: its lists of plain values (data set, indices, texts), no tensors."""
    lists = {key: value for key, value in batch.items() if isinstance(value, list)}
    return {key: value for key, value in lists.items() if all(isinstance(v, str | int | None) for v in value)}


def all_finite(tensors: list[Tensor]) -> Tensor:
    """Whether no tensor holds NaN or infinity, a () bool on their device."""
    return torch.nn.utils.get_total_norm(tensors, norm_type=torch.inf).isfinite()


def describe(report: Mapping[str, Any]) -> str:
    """One line: step, rank, every loss, and the samples of the batches whose losses are not finite."""
    losses = [batch["losses"] for batch in report["batches"]]
    wrong = _wrong_batches(report)
    if not wrong:
        return (
            f"gradients are not finite in step {report['step']}, rank {report['rank']}, of "
            f"{', '.join(report['gradients_not_finite'][:3])}; losses {losses}"
        )
    samples = "; ".join(line for batch in wrong for line in _lines(batch["samples"]))
    return f"a loss that is not finite in step {report['step']}, rank {report['rank']}: {losses}; batch: {samples}"


def _wrong_batches(report: Mapping[str, Any]) -> list[dict[str, Any]]:
    return [batch for batch in report["batches"] if any(isinstance(v, str) for v in batch["losses"].values())]


def _lines(samples: Mapping[str, Any]) -> list[str]:
    """``dataset coco, img_index 3, raw_index 7, text a red ball`` of every sample; what the batch has of these.

    Of JSON lists: ``dataset coco_train, index 7, text a red ball``, the list's name and the row in it.
    """
    columns = [key for key in ("dataset", "img_index", "raw_index", "index", "text") if key in samples]
    rows = zip(*(samples[key] for key in columns), strict=True)
    return [", ".join(f"{key} {value}" for key, value in zip(columns, row, strict=True)) for row in rows]


def _plain(value: Tensor) -> float | str:
    number = float(value)
    return number if math.isfinite(number) else str(number)
