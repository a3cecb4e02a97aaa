"""SNLI-VE: does an image entail a sentence (docs/official/albef.md §7)."""

from __future__ import annotations

from typing import Any, ClassVar

from albef.models.classifier_model import ClassifierModel
from vlp.nn.fusion_bert import FusionEncoder

CLASSES = ("contradiction", "neutral", "entailment")  # labels 0, 1, 2


class ALBEF(ClassifierModel):
    """The official model class of SNLI-VE."""

    loss_name = "ve_loss"
    meters: ClassVar = {"loss": "ve_loss"}

    def __init__(self, config: dict[str, Any]) -> None:
        """``config`` is a resolved config."""
        super().__init__(config, FusionEncoder(config["bert_config"]), classes=len(CLASSES))
