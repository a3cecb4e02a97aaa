"""Real optimiser steps of ALBEF's pre-training: first gradients, losses, learning rates, final values.

Source: docs/official/albef.md §5, §6.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from albef.epoch_schedule import cycle_rate
from albef.models.albef_module import decay_groups
from albef.models.model_pretrain import ALBEF
from tests.parity.replays import PLAIN, TRAINING_PATH, Fixture, Outputs, replay
from tests.parity.replays.albef_models import model_of, negatives_of, pretraining_batch, tensor
from vlp.losses.total import total_loss
from vlp.training.optim import build_optimizer

LOSSES = ("mlm_loss", "ita_loss", "itm_loss")


@replay("albef", "trainsteps", modes=(PLAIN, TRAINING_PATH))
def trainsteps(fixture: Fixture, mode: str) -> Outputs:
    model, batch, taken = model_of(ALBEF, fixture, mode), pretraining_batch(fixture), fixture.trajectory
    assert taken["optimizer"] == "AdamW"
    groups = decay_groups(model.named_parameters(), taken["weight_decay"])
    optimizer = build_optimizer(groups, "adamW", taken["lr"])
    losses, rates = [], []
    for step, alpha in enumerate(tensor(fixture.inputs["alphas"]).tolist()[: taken["steps"]]):
        rates.append(_rate(taken, step))
        for group in optimizer.param_groups:
            group["lr"] = rates[-1]
        optimizer.zero_grad()
        outputs = model(batch, alpha, negatives_of(fixture, step))
        total_loss(outputs).backward()
        if step == 0:
            yield from _gradients(fixture, model)
        optimizer.step()
        losses.append([outputs[name].item() for name in LOSSES])
    yield "losses", torch.tensor(losses)
    yield "lrs", torch.tensor(rates)
    yield from _final(fixture, model)


def _rate(taken: dict[str, Any], step: int) -> float:
    names = {"lr": "lr", "min_lr": "min_lr", "warmup_lr": "warmup_lr", "warmup_epochs": "warmup", "epochs": "max_steps"}
    return cycle_rate(taken["schedule_t"][step], **{ours: taken[theirs] for ours, theirs in names.items()})


def _gradients(fixture: Fixture, model: ALBEF) -> Outputs:
    parameters = dict(model.named_parameters())
    norms = [parameters[str(key)].grad.norm() for key in fixture.inputs["grad_norm_keys"]]  # type: ignore[union-attr]
    yield "grad_norm", torch.stack(norms)
    for name, array in fixture.arrays.items():
        if name.startswith("grad."):
            yield name, _no_none(parameters[array["of"]].grad)


def _final(fixture: Fixture, model: ALBEF) -> Outputs:
    state = model.state_dict()
    for name, array in fixture.arrays.items():
        if name.startswith("final."):
            yield name, state[array["of"]]


def _no_none(grad: Tensor | None) -> Tensor:
    assert grad is not None
    return grad
