"""What the models of ALBEF and X-VLM share: steps of epochs, their distillation weight, their evaluation by splits."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import lightning as L
from torch import Tensor


class EpochModule(L.LightningModule):
    """A model that is trained by epochs; a subclass gives the objectives of a batch and its evaluation."""

    # The official name of a loss in log.txt -> the entry of a step's outputs.
    meters: ClassVar[Mapping[str, str]] = {}

    def __init__(self, config: dict[str, Any]) -> None:
        """``config`` is a resolved config; it is saved in every checkpoint."""
        super().__init__()
        self.save_hyperparameters({"config": config})
        self.config = config
        self.step_losses: dict[str, Tensor] = {}  # of the last training batch

    def forward(self, batch: dict[str, Any], alpha: float) -> dict[str, Any]:
        """All objectives of one batch; entries whose key ends in ``_loss`` are summed and trained.

        ``alpha`` is the weight of the momentum model's soft targets in this step.
        """
        raise NotImplementedError

    def start_evaluation(self, split: str) -> None:
        """Before the first batch of an evaluation split."""

    def evaluation_step(self, batch: dict[str, Any], split: str) -> None:
        """Score one batch of an evaluation split."""
        raise NotImplementedError

    def evaluation_results(self, split: str) -> dict[str, float]:
        """The split's metrics over all ranks, by their official names; every rank calls it."""
        raise NotImplementedError
