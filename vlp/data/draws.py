"""Random draws that belong to a sample, not to the process that happens to build it."""

from __future__ import annotations

import random
from dataclasses import dataclass


@dataclass(frozen=True)
class SampleKey:
    """The seed of a sample's random draws: the same in every loader worker, on every rank and after every resume."""

    seed: int
    epoch: int
    dataset: str
    index: int

    def rng(self, purpose: str) -> random.Random:
        """Return the generator of this sample for ``purpose`` ("draws", "mlm text" …)."""
        return random.Random(f"{self.seed}/{self.epoch}/{self.dataset}/{self.index}/{purpose}")
