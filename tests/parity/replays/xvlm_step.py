"""Two optimiser steps of X-VLM's pre-training, one of regions and one of images, as one iteration takes them.

Source: docs/official/xvlm.md §5.6, §6.
"""

from __future__ import annotations

import csv
from collections import deque
from typing import Any

import torch

from tests.parity.replays import PLAIN, TRAINING_PATH, Fixture, Outputs, replay
from tests.parity.replays.xvlm_models import model_of, negatives_of, pretraining_batch, sums
from vlp.losses.total import total_loss
from vlp.training.optim import AdamW


@replay("xvlm", "step", modes=(PLAIN, TRAINING_PATH))
def step(fixture: Fixture, mode: str) -> Outputs:
    model = _model(fixture, mode)
    yield from _optimised(fixture, model, "zeros")
    state = model.state_dict()
    for name in fixture.arrays:
        if name.startswith("after/"):
            yield name, state[name.removeprefix("after/")]
    for prefix in ("", "roundoff_"):
        yield from sums(fixture, state, prefix)
    without = [name for name in fixture.arrays if name.startswith("after_set_to_none/")]
    if without:
        model = _model(fixture, mode)
        deque(_optimised(fixture, model, "none"), maxlen=0)
        state = model.state_dict()
    for name in without:
        yield name, state[name.removeprefix("after_set_to_none/")]


def _model(fixture: Fixture, mode: str) -> Any:
    taken = fixture.trajectory
    rates = {"lr": taken["lr"], "weight_decay": taken["weight_decay"], "lr_mult": _multiplier(fixture)}
    return model_of(fixture, mode, optimizer=rates)


def _optimised(fixture: Fixture, model: Any, zero_grad: str) -> Outputs:
    """Take the model through the trajectory, and yield what it says on the way.

    With ``zero_grad`` "none" the general step leaves the box head without a gradient, as a run without regions does.
    """
    taken = fixture.trajectory
    assert taken["optimizer"] == "adamw_transformers" and taken["schedule"] == "constant"
    optimizer = AdamW(model.parameter_groups(), lr=taken["lr"], betas=tuple(taken["betas"]), eps=taken["eps"])
    for batch in taken["batches"]:
        name, prefix = batch["prefix"], f"{batch['prefix']}/"
        if zero_grad == "none" and batch["replay"] == "pretrain":
            model.config["train_file_regions"] = []
        optimizer.zero_grad()
        inputs = pretraining_batch(fixture, prefix, regions=batch["replay"] == "region").whole()
        outputs = model(inputs, negatives_of(fixture, prefix))
        loss = total_loss(outputs)
        loss.backward()
        norm = torch.nn.utils.clip_grad_norm_(model.parameters(), taken["clip_grad_norm"])
        yield f"{name}_total_loss", loss
        yield f"{name}_grad_norm", norm
        yield f"{name}_grad_temp_after_clip", model.temp.grad
        optimizer.step()


def _multiplier(fixture: Fixture) -> float:
    """Of the learning rate of what has no pre-trained weights."""
    with fixture.file(fixture.trajectory["group_multipliers"]["table"]).open(newline="", encoding="utf-8") as handle:
        return max(float(row["lr_mult"]) for row in csv.DictReader(handle, delimiter="\t"))
