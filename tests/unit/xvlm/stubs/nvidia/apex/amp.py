"""``apex.amp``: one loss scale, halved where gradients overflow, doubled after ``WINDOW`` steps without."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch

WINDOW = 2000
calls: list[tuple[str, Any]] = []
state: dict[str, Any] = {}
bounds: tuple[float, float] = (0.0, 0.0)


def initialize(models: Any, optimizers: Any, opt_level: str = "O1", **options: Any) -> tuple[Any, Any]:
    global bounds
    wrapped = isinstance(models, torch.nn.parallel.DistributedDataParallel)
    calls.append(("initialize", {"opt_level": opt_level, "wrapped": wrapped, **options}))
    fixed = options["loss_scale"]
    bounds = (options["min_loss_scale"], options["max_loss_scale"])
    state.clear()
    state.update(loss_scale=bounds[1] if fixed == "dynamic" else fixed, unskipped=0)
    return models, optimizers


@contextmanager
def scale_loss(loss: Any, optimizers: Any) -> Iterator[Any]:
    yield loss.float() * state["loss_scale"]
    grads = [p.grad for p in master_params(optimizers) if p.grad is not None]
    for grad in grads:
        grad.div_(state["loss_scale"])
    if all(bool(grad.isfinite().all()) for grad in grads):
        state["unskipped"] += 1
        if state["unskipped"] == WINDOW:
            state.update(loss_scale=min(2 * state["loss_scale"], bounds[1]), unskipped=0)
        return
    calls.append(("overflow", state["loss_scale"]))
    state.update(loss_scale=max(state["loss_scale"] / 2, bounds[0]), unskipped=0)
    step = optimizers.step

    def skip(closure: Any = None) -> None:
        optimizers.step = step

    optimizers.step = skip


def master_params(optimizer: Any) -> Iterator[Any]:
    return (p for group in optimizer.param_groups for p in group["params"])


def state_dict() -> dict[str, Any]:
    return {"loss_scaler0": dict(state)}


def load_state_dict(given: dict[str, Any]) -> None:
    state.update(given["loss_scaler0"])
