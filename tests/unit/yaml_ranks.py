"""What the tests of two processes of ALBEF and of X-VLM keep of each step."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import lightning as L
import torch
from lightning.pytorch.callbacks import Callback
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from tests.unit.meter.test_distributed import gradients_of


class Recorder(Callback):
    """Keeps what every step starts from, and what its optimiser gets."""

    def __init__(self) -> None:
        self.steps: list[dict[str, Any]] = []
        self.searches = False  # for parameters without a gradient
        self.state_size = 0  # numbers of this rank's first moments

    def on_train_batch_start(self, trainer: L.Trainer, pl_module: Any, batch: Any, batch_idx: int) -> None:
        wrapped = trainer.strategy.model
        self.searches = isinstance(wrapped, DistributedDataParallel) and wrapped.find_unused_parameters
        kept = {key: value for key, value in batch.items() if isinstance(value, Tensor | list | str | int)}  # no plans
        self.steps.append({"batch": kept, "state": copies(pl_module.state_dict()), "random": torch.get_rng_state()})

    def on_before_optimizer_step(self, trainer: L.Trainer, pl_module: L.LightningModule, optimizer: Any) -> None:
        self.steps[-1]["gradients"] = gradients_of(pl_module)

    def on_train_batch_end(self, trainer: L.Trainer, pl_module: Any, *_: Any) -> None:
        optimizer: Any = trainer.optimizers[0]
        states = getattr(optimizer, "optim", optimizer).state.values()
        self.state_size = sum(state["exp_avg"].numel() for state in states)

    def save(self, model: nn.Module, path: Path) -> None:
        """Write all of it and the weights at the end, for :func:`torch.load`."""
        kept = {each: getattr(self, each) for each in ("steps", "searches", "state_size")}
        torch.save({**kept, "weights": copies(model.state_dict())}, path)


def copies(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name: value.detach().clone() for name, value in tensors.items()}
