"""One random stream for all processes, as the official accelerator has it (docs/official/xvlm.md §1.5)."""

from __future__ import annotations

import random
from collections.abc import Mapping
from typing import Any

import lightning as L
import numpy as np
import torch
from lightning.pytorch.callbacks import Callback


class SharedSeed(Callback):
    """Seeds Python, NumPy and torch with ``accelerator.RNG_SEED``, the same on every rank, once the model is built.

    So every rank begins with the same draws; they part where texts of other lengths take more of them.
    """

    def __init__(self, config: Mapping[str, Any]) -> None:
        self.seed = config["accelerator"]["RNG_SEED"]

    def on_fit_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        random.seed(self.seed)
        np.random.seed(self.seed % 2**32)
        torch.manual_seed(self.seed)  # of all GPUs, too
