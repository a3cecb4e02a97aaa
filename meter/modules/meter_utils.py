"""Metrics and log tags (SPEC §1.6), optimiser groups and schedule (SPEC §6) of METER."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import torch.nn.functional as F
from torchmetrics import MeanMetric

from meter.modules.recall import compute_irtr_recall
from vlp.training.optim import build_optimizer
from vlp.training.param_groups import six_groups
from vlp.training.schedules import schedule

if TYPE_CHECKING:
    from torch import Tensor

    from meter.modules.meter_module import METERTransformerSS

HEAD_NAMES = ["vqa_classifier", "nlvr2_classifier", "mlm_score", "itm_score", "snli_classifier"]
CROSS_MODAL_NAMES = ["cross_modal"]
BY_TABLE = ("nlvr2", "snli")  # evaluated on two splits at once, told apart by the names of their tables


def set_metrics(model: METERTransformerSS) -> None:
    """Running means per phase and task; sub-modules without persistent state, as in the official model."""
    for task in model.current_tasks:
        for phase in ("train", *phases(task, training=False)):
            for quantity in quantities(task):
                setattr(model, f"{phase}_{task}_{quantity}", MeanMetric(nan_strategy="ignore"))


def quantities(task: str) -> tuple[str, ...]:
    """What is logged of a task, under the official names."""
    if task == "irtr":
        return ("irtr_loss",)
    return ("loss", "score" if task == "vqa" else "accuracy")


def phases(task: str, training: bool) -> tuple[str, ...]:
    """The phases in a task's log tags."""
    if training:
        return ("train",)
    return ("dev", "test") if task in BY_TABLE else ("val",)


def phase_of(model: METERTransformerSS) -> str:
    """ "train" while the module is in training mode, else "val" (also during test)."""
    return "train" if model.training else "val"


def log_step(model: METERTransformerSS, outputs: dict[str, Any], batch: dict[str, Any]) -> None:
    """Log this batch's losses and accuracies and add them to the epoch's means."""
    for task in model.current_tasks:
        for phase, loss, logits, labels in _parts(model, task, outputs, batch):
            for quantity in quantities(task):
                measure = MEASURES.get(quantity)
                value = loss.detach() if measure is None else measure(logits, labels)
                getattr(model, f"{phase}_{task}_{quantity}").update(value, weight=max(len(labels), 1))
                model.log(f"{task}/{phase}/{quantity}", value, batch_size=max(len(labels), 1))


def _parts(
    model: METERTransformerSS, task: str, outputs: dict[str, Any], batch: dict[str, Any]
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


def epoch_wrapup(model: METERTransformerSS) -> None:
    """Log the epoch's means (``…_epoch``), the recalls, and ``the_metric`` that picks the best checkpoint."""
    phase = phase_of(model)
    the_metric = 0.0
    parts = [(task, part) for task in model.current_tasks for part in phases(task, model.training)]
    for task, part in parts:
        for quantity in quantities(task):
            metric = getattr(model, f"{part}_{task}_{quantity}")
            value = metric.compute()
            metric.reset()
            model.log(f"{task}/{part}/{quantity}_epoch", value, sync_dist=True)
            if quantity in MEASURES and part != "test":  # two splits: the official metric is that of dev
                the_metric += float(value)
    if model.config["get_recall_metric"] and phase == "val" and not model.trainer.sanity_checking:
        recalls = compute_irtr_recall(model)
        for name, value in recalls._asdict().items():
            model.log(f"recalls/{name}", value, sync_dist=True)
        the_metric += recalls.ir_r1 + recalls.tr_r1
    model.log(f"{phase}/the_metric", the_metric, sync_dist=True)
    # EPIC >
    if model.epic is not None:
        model.epic.log_epoch(model)
    # < EPIC


def set_schedule(model: METERTransformerSS) -> tuple[list[Any], list[dict[str, Any]]]:
    """The official optimiser over the six official groups, and its per-step schedule."""
    c = model.config
    groups = six_groups(
        model.official_named_parameters(),
        c["learning_rate"],
        c["weight_decay"],
        HEAD_NAMES,
        c["lr_mult_head"],
        CROSS_MODAL_NAMES,
        c["lr_mult_cross_modal"],
    )
    # EPIC >
    if model.epic is not None:
        groups = model.epic.own_groups(groups, c["learning_rate"], c["lr_mult_head"])
    # < EPIC
    optimizer = build_optimizer(groups, c["optim_type"], c["learning_rate"], c["shard_optimizer"])
    scheduler = schedule(
        optimizer,
        learning_rate=c["learning_rate"],
        max_steps=total_steps(model),
        warmup_steps=c["warmup_steps"],
        decay_power=c["decay_power"],
        end_lr=c["end_lr"],
    )
    # The tag of the official logs, also where another optimiser wraps it.
    name = f"lr-{type(getattr(optimizer, 'optim', optimizer)).__name__}"
    return [optimizer], [{"scheduler": scheduler, "interval": "step", "name": name}]


def total_steps(model: METERTransformerSS) -> int:
    """max_steps if set, else batches x epochs // accumulation."""
    if model.config["max_steps"] is not None:
        return model.config["max_steps"]
    trainer = model.trainer
    assert trainer.max_epochs is not None
    batches = len(trainer.datamodule.train_dataloader())  # type: ignore[attr-defined]
    return batches * trainer.max_epochs // trainer.accumulate_grad_batches
