"""What models that give a text and its images a class share: the accuracy over a split.

Source: docs/official/albef.md §7, docs/official/xvlm.md §7.3.
"""

from __future__ import annotations

from typing import Any

from torch import Tensor

from vlp.evaluation.accuracy import Accuracy
from vlp.yaml_dialect.epoch_module import EpochModule


class ClassifiedModel(EpochModule):
    """A subclass gives the logits of a batch, which has ``labels``."""

    _accuracy: Accuracy | None = None

    def class_logits(self, batch: dict[str, Any]) -> Tensor:
        """(B, classes)."""
        raise NotImplementedError

    def start_evaluation(self, split: str) -> None:
        self._accuracy = Accuracy()

    def evaluation_step(self, batch: dict[str, Any], split: str) -> None:
        assert self._accuracy is not None
        items = zip(batch["dataset"], batch["index"], strict=True)
        self._accuracy.add(items, self.class_logits(batch), batch["labels"])

    def evaluation_results(self, split: str) -> dict[str, float]:
        """``acc``, 0 to 1."""
        assert self._accuracy is not None
        return {"acc": self._accuracy.result()}
