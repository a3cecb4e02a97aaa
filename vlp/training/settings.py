"""What the engine needs to know of a run, in its own words; a baseline's dialect makes it of a configuration."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from lightning.pytorch.plugins.precision import Precision as PrecisionPlugin

from vlp.training.ddp import KnownUnusedDDP
from vlp.training.matmul import MatmulPrecision

Precision = Literal["32-true", "bf16-mixed", "16-mixed"]
# What the key ``precision`` of every dialect may be.
PRECISIONS: dict[int | str | None, Precision] = {
    None: "32-true",  # what computes says it itself (apex)
    32: "32-true",
    "32": "32-true",
    "bf16": "bf16-mixed",
    16: "16-mixed",
    "16": "16-mixed",
}


@dataclass(frozen=True)
class TrainerSettings:
    """How a run is trained.

    Attributes:
        devices: processes of each node, or the ids of its GPUs.
        num_nodes: machines.
        precision: Lightning's name of it.
        matmul_precision: of float32 products on a GPU.
        deterministic: whether a run repeats bit by bit; None: on a CPU, not on a GPU.
        max_steps: optimiser steps; None where ``max_epochs`` alone ends the run.
        max_epochs: passes over the training set.
        accumulate: batches of a process per optimiser step.
        val_check_interval: a share of an epoch, or a number of batches.
        monitor: the validation metric, the higher the better, that picks the best checkpoint; None: none is kept here.
        log_every: optimiser steps between two lines of metrics.
        save_every: optimiser steps between two ``last.ckpt`` beside validations and epoch ends; 0: only there.
        fast_dev_run: one batch of everything, which leaves nothing behind.
        cpu: leave GPUs alone.
        precision_plugin: what computes in another way than Lightning does by itself at ``precision``.
        ddp: how several processes exchange gradients.
        clip_norm: norm that gradients are clipped to; 0: none.
        sync_batchnorm: whether processes share the statistics of batch normalisation.
        equal_buffers: whether every process makes the same of the model's buffers, so that none are sent around.
    """

    devices: int | list[int]
    num_nodes: int
    precision: Precision
    matmul_precision: MatmulPrecision
    deterministic: bool | None
    max_steps: int | None
    max_epochs: int
    accumulate: int
    val_check_interval: float | int
    monitor: str | None
    log_every: int
    save_every: int
    fast_dev_run: bool = False
    cpu: bool = False
    precision_plugin: PrecisionPlugin | None = None
    ddp: Callable[..., KnownUnusedDDP] = KnownUnusedDDP
    clip_norm: float = 0.0
    sync_batchnorm: bool = False
    equal_buffers: bool = False

    @property
    def processes_per_node(self) -> int:
        """One for each device."""
        return len(self.devices) if isinstance(self.devices, list) else self.devices
