"""Accuracy over a split that several ranks share, each item once (docs/official/albef.md §3, §7)."""

from __future__ import annotations

from collections.abc import Hashable, Iterable

from torch import Tensor

from vlp.distributed import gathered


class Accuracy:
    """Which items were classified rightly.

    Samplers repeat a few items so that every rank has as many; officially these count twice.
    """

    def __init__(self) -> None:
        self.right: dict[Hashable, bool] = {}

    def add(self, items: Iterable[Hashable], logits: Tensor, labels: Tensor) -> None:
        """Take items by their names, with logits (B, C) and labels (B,)."""
        self.right.update(zip(items, (logits.argmax(dim=1) == labels).tolist(), strict=True))

    def result(self) -> float:
        """Of all ranks' items, 0 to 1; every rank must call it. NaN where there were none."""
        merged = {item: right for part in gathered(self.right) for item, right in part.items()}
        return sum(merged.values()) / len(merged) if merged else float("nan")
