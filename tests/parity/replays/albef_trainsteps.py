"""Real optimiser steps of ALBEF's pre-training: first gradients, losses, learning rates, final values.

Source: docs/official/albef.md §5, §6.
"""

from __future__ import annotations

from typing import Any

import torch

from albef.epoch_schedule import cycle_rate
from albef.models.albef_module import decay_groups
from albef.models.model_pretrain import ALBEF
from tests.parity.replays import PLAIN, TRAINING_PATH, Fixture, Given, Outputs, replay
from tests.parity.replays.albef_models import alpha_of, model_of, negatives_of, pretraining_batch
from vlp.losses.total import total_loss
from vlp.training.optim import build_optimizer

LOSSES = ("mlm_loss", "ita_loss", "itm_loss")


@replay("albef", "trainsteps", modes=(PLAIN, TRAINING_PATH))
def trainsteps(fixture: Fixture, mode: str) -> Outputs:
    model, batch, taken = model_of(ALBEF, fixture, mode), pretraining_batch(fixture), fixture.trajectory
    yield "lrs", lambda: torch.tensor([_rate(taken, step) for step in range(taken["steps"])])
    outputs = _backward(fixture, model, batch, step=0)
    yield from _gradients(fixture, model)
    assert taken["optimizer"] == "AdamW"
    groups = decay_groups(model.named_parameters(), taken["weight_decay"])
    optimizer = build_optimizer(groups, "adamW", taken["lr"])
    losses = []
    for step in range(taken["steps"]):
        if step:
            outputs = _backward(fixture, model, batch, step)
        for group in optimizer.param_groups:
            group["lr"] = _rate(taken, step)
        optimizer.step()
        optimizer.zero_grad()
        losses.append([outputs[name].item() for name in LOSSES])
    yield "losses", torch.tensor(losses)
    yield from _final(fixture, model)


def _backward(fixture: Fixture, model: ALBEF, batch: Given, step: int) -> dict[str, Any]:
    outputs: dict[str, Any] = model(batch.whole(), alpha_of(fixture, step), negatives_of(fixture, step))
    total_loss(outputs).backward()
    return outputs


def _rate(taken: dict[str, Any], step: int) -> float:
    names = {"lr": "lr", "min_lr": "min_lr", "warmup_lr": "warmup_lr", "warmup_epochs": "warmup", "epochs": "max_steps"}
    return cycle_rate(taken["schedule_t"][step], **{ours: taken[theirs] for ours, theirs in names.items()})


def _gradients(fixture: Fixture, model: ALBEF) -> Outputs:
    grads = {key: parameter.grad for key, parameter in model.named_parameters() if parameter.grad is not None}
    yield "grad_norm", lambda: torch.stack([grads[str(key)].norm() for key in fixture.inputs["grad_norm_keys"]])
    for name, array in fixture.arrays.items():
        if name.startswith("grad."):
            yield name, grads[array["of"]]


def _final(fixture: Fixture, model: ALBEF) -> Outputs:
    state = model.state_dict()
    for name, array in fixture.arrays.items():
        if name.startswith("final."):
            yield name, state[array["of"]]
