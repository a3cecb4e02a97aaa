"""The schedule of docs/official/albef.md §6 against its own account of an official loop, step by step."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from albef.epoch_schedule import epoch_rate, epoch_schedule

PRETRAIN: dict[str, Any] = {"lr": 1e-4, "min_lr": 1e-5, "warmup_lr": 1e-5, "warmup_epochs": 20, "epochs": 30}


def cycle(t: int, lr: float, min_lr: float, warmup_lr: float, warmup_epochs: int, epochs: int) -> float:
    if t < warmup_epochs:
        return warmup_lr + t * (lr - warmup_lr) / warmup_epochs
    u = t - warmup_epochs
    return min_lr + (lr - min_lr) * 0.5 * (1 + math.cos(math.pi * u / epochs)) if u < epochs else min_lr


def official_loop(batches: int, **settings: Any) -> list[float]:
    """The rate of every iteration of a run, as the official loop sets it: after the step, and at an epoch's start."""
    rate = settings["warmup_lr"] if settings["warmup_epochs"] else settings["lr"]
    rates = []
    for epoch in range(settings["epochs"]):
        if epoch:
            rate = cycle(settings["warmup_epochs"] + epoch, **settings)
        for i in range(batches):
            rates.append(rate)
            if epoch == 0 and i % 100 == 0 and i <= settings["warmup_epochs"] * 100:
                rate = cycle(i // 100, **settings)
    return rates


def optimizer(lr: float) -> torch.optim.Optimizer:
    return torch.optim.SGD([{"params": [torch.nn.Parameter(torch.zeros(1))]} for _ in range(2)], lr=lr)


@settings(deadline=None, max_examples=40)
@given(
    st.integers(1, 450),
    st.integers(0, 5),
    st.integers(1, 4),
    st.floats(1e-6, 1e-3),
    st.floats(0, 1),
    st.floats(0, 2),
)
def test_every_step_of_a_run_has_the_official_rate(
    batches: int, warmup: int, epochs: int, lr: float, low: float, start: float
) -> None:
    values: dict[str, Any] = {
        "lr": lr,
        "min_lr": low * lr,
        "warmup_lr": start * lr,
        "warmup_epochs": warmup,
        "epochs": epochs,
    }
    made = optimizer(lr)
    schedule = epoch_schedule(made, batches, **values)
    for step, official in enumerate(official_loop(batches, **values)):
        assert {group["lr"] for group in made.param_groups} == {made.param_groups[0]["lr"]}
        assert made.param_groups[0]["lr"] == pytest.approx(official, rel=1e-12, abs=1e-18), step
        made.step()
        schedule.step()
    assert all(group["initial_lr"] == lr for group in made.param_groups)


def test_the_blocks_of_the_first_epoch() -> None:
    at = {0: 1e-5, 100: 1e-5, 101: 1.45e-5, 200: 1.45e-5, 2000: 9.55e-5, 2001: 1e-4, 2999: 1e-4}
    for iteration, rate in at.items():
        assert epoch_rate(0, iteration, **PRETRAIN) == pytest.approx(rate, rel=1e-12), iteration
    assert epoch_rate(15, 0, **PRETRAIN) == epoch_rate(15, 1234, **PRETRAIN) == pytest.approx(5.5e-5)


def test_an_epoch_without_a_batch_is_refused() -> None:
    with pytest.raises(ValueError, match="gives no whole batch"):
        epoch_schedule(optimizer(1e-4), 0, **PRETRAIN)
