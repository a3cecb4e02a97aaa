"""Metrics and official log tags of METER's and ViLT's tasks (docs/official/meter.md §1.6, docs/official/vilt.md §1)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch.nn.functional as F
from torch import Tensor

from vlp.sacred_dialect.retrieval import compute_irtr_recall
from vlp.sacred_dialect.tasks import Tasks
from vlp.training.phase import phase_of
from vlp.training.running_mean import RunningMean

BY_TABLE = ("nlvr2", "snli")  # evaluated on two splits at once, told apart by the names of their tables


def set_metrics(model: Tasks) -> None:
    """Running means per phase and task; sub-modules without persistent state, as in the official models."""
    for task in model.current_tasks:
        for phase in ("train", *phases(task, training=False)):
            for quantity in quantities(model, task):
                setattr(model, f"{phase}_{task}_{quantity}", RunningMean())


def quantities(model: Tasks, task: str) -> tuple[str, ...]:
    """What is logged of a task, under the official names."""
    if task == "irtr":
        return ("irtr_loss",)
    return ("loss", "score" if task == "vqa" else "accuracy", *model.further_losses.get(task, ()))


def phases(task: str, training: bool) -> tuple[str, ...]:
    """The phases in a task's log tags."""
    if training:
        return ("train",)
    return ("dev", "test") if task in BY_TABLE else ("val",)


def log_step(model: Tasks, outputs: dict[str, Any], batch: dict[str, Any]) -> None:
    """Log this batch's losses and accuracies and add them to the epoch's means."""
    for task in model.current_tasks:
        further = model.further_losses.get(task, ())
        for phase, loss, logits, labels in _parts(model, task, outputs, batch):
            for quantity in quantities(model, task):
                if quantity in MEASURES:
                    value = MEASURES[quantity](logits, labels)
                else:
                    value = (outputs[f"{task}_{quantity}"] if quantity in further else loss).detach()
                getattr(model, f"{phase}_{task}_{quantity}").update(value, weight=max(len(labels), 1))
                model.log(f"{task}/{phase}/{quantity}", value, batch_size=max(len(labels), 1))


def _parts(
    model: Tasks, task: str, outputs: dict[str, Any], batch: dict[str, Any]
) -> Iterator[tuple[str, Tensor, Tensor, Tensor]]:
    """Yield (phase, loss, logits, labels) of a batch: all of it, or in evaluation one part per split BY_TABLE."""
    loss, logits, labels = (outputs[f"{task}_{what}"] for what in ("loss", "logits", "labels"))
    if model.training or task not in BY_TABLE:
        yield phase_of(model), loss, logits, labels
        return
    for phase in phases(task, training=False):
        rows = [i for i, table in enumerate(batch["table_name"]) if phase in table]
        if rows:
            yield phase, F.cross_entropy(logits[rows].float(), labels[rows]), logits[rows], labels[rows]


def accuracy(logits: Tensor, labels: Tensor) -> Tensor:
    """logits (K, C), labels (K,) -> share of right arg-maxes, NaN if K = 0."""
    return (logits.argmax(dim=-1) == labels).float().mean()


def soft_score(logits: Tensor, targets: Tensor) -> Tensor:
    """logits (B, C), targets (B, C) soft scores -> mean score of the best answers."""
    return targets.gather(1, logits.argmax(dim=-1, keepdim=True)).mean()


MEASURES = {"accuracy": accuracy, "score": soft_score}


def epoch_wrapup(model: Tasks) -> None:
    """Log the epoch's means (``…_epoch``), the recalls, and ``the_metric`` that picks the best checkpoint."""
    phase = phase_of(model)
    the_metric = 0.0
    parts = [(task, part) for task in model.current_tasks for part in phases(task, model.training)]
    for task, part in parts:
        for quantity in quantities(model, task):
            metric = getattr(model, f"{part}_{task}_{quantity}")
            value = metric.compute()
            metric.reset()
            model.log(f"{task}/{part}/{quantity}_epoch", value, sync_dist=True)
            if quantity in MEASURES and part in ("train", "val", model.deciding_split):
                the_metric += float(value)
    if model.config["get_recall_metric"] and phase == "val" and not model.trainer.sanity_checking:
        recalls = compute_irtr_recall(model)
        for name, value in recalls._asdict().items():
            model.log(f"recalls/{name}", value, sync_dist=True)
        the_metric += recalls.ir_r1 + recalls.tr_r1
    model.log(f"{phase}/the_metric", the_metric, sync_dist=True)
