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


def itm_labels_of_batch(first: SampleKey, size: int) -> list[int]:
    """ITM's labels of a batch of B = ``size`` samples, ``first`` the key of its first one.

    B // 2 ones ("keeps its image") and B - B // 2 zeros ("gets its false image") in random order.

    Source: docs/official/meter.md §5, docs/official/vilt.md §5.
    """
    labels = [1] * (size // 2) + [0] * (size - size // 2)
    first.rng("itm").shuffle(labels)
    return labels
