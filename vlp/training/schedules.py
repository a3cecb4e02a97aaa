"""Learning-rate schedules of METER, ViLT and X-VLM: warm-up, then polynomial or cosine decay, per optimiser step.

Source: docs/official/meter.md §6, docs/official/xvlm.md §6.
"""

from __future__ import annotations

import math
from functools import partial
from typing import Literal

from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR

DecayPower = float | Literal["cosine"]


def resolve_warmup(warmup_steps: int | float, max_steps: int) -> int:
    """Warm-up steps W: an int as it stands, a float as that fraction of `max_steps`, rounded down.

    Raises:
        ValueError: a negative number of steps, or a float outside [0, 1].
    """
    if isinstance(warmup_steps, float):
        if not 0 <= warmup_steps <= 1:
            raise ValueError(f"warmup_steps={warmup_steps}: a float is a fraction of max_steps; write steps as an int")
        return int(max_steps * warmup_steps)
    if warmup_steps < 0:
        raise ValueError(f"warmup_steps={warmup_steps} is negative")
    return warmup_steps


def lr_multiplier(
    step: int, *, max_steps: int, warmup_steps: int, power: DecayPower = 1, end_lr_ratio: float = 0.0
) -> float:
    """f(t), the factor on every group's learning rate at optimiser step t = `step`, counted from 0.

    t < W: t / max(1, W), so that the first step of a warm-up runs at 0. Then, with r = end_lr / lr,
    (1 - r)(1 - (t - W) / (T - W))^power + r until T = `max_steps`, and r from there on; "cosine" is
    (1 + cos(pi (t - W) / (T - W))) / 2, and 0 from T on, and takes no end_lr.
    """
    if step < warmup_steps:
        return step / max(1, warmup_steps)
    if step >= max_steps:
        return 0.0 if power == "cosine" else end_lr_ratio
    progress = (step - warmup_steps) / (max_steps - warmup_steps)
    if power == "cosine":
        return 0.5 * (1 + math.cos(math.pi * progress))
    return (1 - end_lr_ratio) * (1 - progress) ** power + end_lr_ratio


def schedule(
    optimizer: Optimizer,
    learning_rate: float,
    max_steps: int,
    warmup_steps: int | float,
    decay_power: DecayPower = 1,
    end_lr: float = 0.0,
) -> LambdaLR:
    """The schedule over an optimiser's groups, each with its own learning rate; step it once per optimiser step.

    Args:
        learning_rate: the base learning rate; it only sets how low `end_lr` is beside it.

    Raises:
        ValueError: max_steps is not positive, end_lr is not below learning_rate, or decay_power is an unknown word.
    """
    if max_steps < 1:
        raise ValueError(f"max_steps={max_steps}: a schedule needs the number of optimiser steps")
    if not 0 <= end_lr < learning_rate:
        raise ValueError(f"end_lr={end_lr} must be at least 0 and below learning_rate={learning_rate}")
    if isinstance(decay_power, str) and decay_power != "cosine":
        raise ValueError(f"decay_power={decay_power!r}: a number or 'cosine'")
    multiplier = partial(
        lr_multiplier,
        max_steps=max_steps,
        warmup_steps=resolve_warmup(warmup_steps, max_steps),
        power=decay_power,
        end_lr_ratio=end_lr / learning_rate,
    )
    return LambdaLR(optimizer, multiplier)
