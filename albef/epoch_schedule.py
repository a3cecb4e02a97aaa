"""The learning rate of ALBEF: a cosine over whole epochs, and a warm-up inside the first one.

Source: docs/official/albef.md §6.
"""

from __future__ import annotations

import math
from functools import partial

from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR

BLOCK = 100  # iterations of the first epoch that count as one "epoch" of the warm-up


def cycle_rate(at: int, *, lr: float, min_lr: float, warmup_lr: float, warmup_epochs: int, epochs: int) -> float:
    """f(t) of timm's cosine scheduler at t = ``at``: W = ``warmup_epochs`` linear steps up, then one cosine.

    t < W: warmup_lr + t (lr - warmup_lr) / W; from there on with u = t - W and E = ``epochs``:
    min_lr + (lr - min_lr) (1 + cos(pi u / E)) / 2, and min_lr from u = E on.
    """
    if at < warmup_epochs:
        return warmup_lr + at * (lr - warmup_lr) / warmup_epochs
    done = at - warmup_epochs
    if done >= epochs:
        return min_lr
    return min_lr + (lr - min_lr) * (1 + math.cos(math.pi * done / epochs)) / 2


def epoch_rate(
    epoch: int, iteration: int, *, lr: float, min_lr: float, warmup_lr: float, warmup_epochs: int, epochs: int
) -> float:
    """The learning rate of one iteration; epochs and iterations are counted from 0.

    In epoch 0 iterations 0..100 run at f(0), 101..200 at f(1), and so on up to f(W); a first epoch that is too short
    never reaches the peak. Epoch e >= 1 runs at f(W + e) as a whole.
    """
    at = warmup_epochs + epoch if epoch else min(max(iteration - 1, 0) // BLOCK, warmup_epochs)
    return cycle_rate(at, lr=lr, min_lr=min_lr, warmup_lr=warmup_lr, warmup_epochs=warmup_epochs, epochs=epochs)


def epoch_schedule(
    optimizer: Optimizer,
    batches: int,
    *,
    lr: float,
    min_lr: float,
    warmup_lr: float,
    warmup_epochs: int,
    epochs: int,
) -> LambdaLR:
    """:func:`epoch_rate` over an optimiser's groups, each with its own peak; step it once per optimiser step.

    Args:
        batches: optimiser steps of an epoch.
        lr: the peak of a group without a factor of its own.

    Raises:
        ValueError: an epoch without a step.
    """
    if batches < 1:
        raise ValueError("the training set gives no whole batch: a smaller batch size, or more data")
    rate = partial(epoch_rate, lr=lr, min_lr=min_lr, warmup_lr=warmup_lr, warmup_epochs=warmup_epochs, epochs=epochs)
    return LambdaLR(optimizer, lambda step: rate(step // batches, step % batches) / lr)
