"""The optimiser and the schedule of METER and ViLT, from their configuration.

Source: docs/official/meter.md §6, docs/official/vilt.md §6.
"""

from __future__ import annotations

from typing import Any

from torch.optim import Optimizer

from vlp.sacred_dialect.tasks import Tasks
from vlp.training.optim import build_optimizer
from vlp.training.schedules import schedule

Optimization = tuple[list[Optimizer], list[Any]]  # what Lightning's configure_optimizers returns


def scheduled(groups: list[dict[str, Any]], model: Tasks) -> Optimization:
    """The optimiser of a run over ``groups``, and its schedule, which advances with every optimiser step."""
    config = model.config
    optimizer = build_optimizer(groups, config["optim_type"], config["learning_rate"], config["shard_optimizer"])
    scheduler = schedule(
        optimizer,
        learning_rate=config["learning_rate"],
        max_steps=total_steps(model),
        warmup_steps=config["warmup_steps"],
        decay_power=config["decay_power"],
        end_lr=config["end_lr"],
    )
    # The tag of the official logs, also where another optimiser wraps it.
    name = f"lr-{type(getattr(optimizer, 'optim', optimizer)).__name__}"
    return [optimizer], [{"scheduler": scheduler, "interval": "step", "name": name}]


def total_steps(model: Tasks) -> int:
    """max_steps if set, else batches x epochs // accumulation."""
    if model.config["max_steps"] is not None:
        return model.config["max_steps"]
    trainer = model.trainer
    assert trainer.max_epochs is not None
    batches = len(trainer.datamodule.train_dataloader())  # type: ignore[attr-defined]
    return batches * trainer.max_epochs // trainer.accumulate_grad_batches
