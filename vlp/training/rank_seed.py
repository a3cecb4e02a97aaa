"""Random numbers of its own for every process of a run."""

from __future__ import annotations

import lightning as L
import torch
from lightning.pytorch.callbacks import Callback


class RankSeed(Callback):
    """Seeds torch with ``seed`` + rank, so that ranks differ in their dropout and their matching labels.

    Models are built before, with ``seed`` alone: they are equal. Not earlier than here: when Lightning sets up several
    processes it puts the seed of :func:`lightning.seed_everything` back, on all of them.
    """

    def __init__(self, seed: int) -> None:
        self.seed = seed

    def setup(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        torch.manual_seed(self.seed + trainer.global_rank)
