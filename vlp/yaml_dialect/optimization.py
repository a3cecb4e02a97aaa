"""The optimiser and the schedule of ALBEF and X-VLM, from their configuration.

Source: docs/official/albef.md §6.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import lightning as L
from torch import nn
from torch.optim import Optimizer

from vlp.training.epoch_schedule import epoch_schedule
from vlp.training.optim import build_optimizer

Optimization = tuple[list[Optimizer], list[Any]]  # what Lightning's configure_optimizers returns


def decay_groups(named_parameters: Iterable[tuple[str, nn.Parameter]], weight_decay: float) -> list[dict[str, Any]]:
    """Two groups of what is trained: without decay whatever has exactly one dimension or is a ``.bias``; the rest.

    So embeddings, positions and the 0-d temperature are decayed.
    """
    without, decayed = list[nn.Parameter](), list[nn.Parameter]()
    for name, parameter in named_parameters:
        if parameter.requires_grad:
            (without if parameter.dim() == 1 or name.endswith(".bias") else decayed).append(parameter)
    return [{"params": without, "weight_decay": 0.0}, {"params": decayed, "weight_decay": weight_decay}]


def batches_per_epoch(trainer: L.Trainer) -> int:
    """Of each process."""
    return len(trainer.datamodule.train_dataloader())  # type: ignore[attr-defined]


def scheduled(groups: list[dict[str, Any]], config: dict[str, Any], batches: int) -> Optimization:
    """AdamW over ``groups``, and its schedule for epochs of ``batches`` steps, which advances with every step."""
    rate, times = config["optimizer"]["lr"], config["schedular"]
    optimizer = build_optimizer(groups, config["optimizer"]["opt"], rate, config["shard_optimizer"])
    names = ("min_lr", "warmup_lr", "warmup_epochs", "epochs")
    schedule = epoch_schedule(optimizer, batches, lr=rate, **{name: times[name] for name in names})
    return [optimizer], [{"scheduler": schedule, "interval": "step", "name": "lr"}]
