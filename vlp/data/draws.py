"""Random draws that belong to a sample, not to the process that happens to build it."""

from __future__ import annotations

import random
from dataclasses import dataclass


@dataclass(frozen=True)
class SampleKey:
    """What fixes every random draw of a sample, whatever worker or rank builds it and however often it resumes."""

    seed: int
    epoch: int
    dataset: str
    index: int

    def rng(self, purpose: str) -> random.Random:
        """Return the generator of this sample for ``purpose`` ("draws", "mlm text" …)."""
        return random.Random(f"{self.seed}/{self.epoch}/{self.dataset}/{self.index}/{purpose}")
