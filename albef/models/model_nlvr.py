"""NLVR2: is a statement true of two images (docs/official/albef.md §7)."""

from __future__ import annotations

from typing import Any, ClassVar

from torch import Tensor

from albef.models.classifier_model import ClassifierModel
from vlp.nn.paired_encoder import left_and_right, paired_encoder


class ALBEF(ClassifierModel):
    """The official model class of NLVR2."""

    loss_name = "nlvr_loss"
    early_momentum: ClassVar = True
    meters: ClassVar = {"loss": "nlvr_loss"}

    def __init__(self, config: dict[str, Any]) -> None:
        """``config`` is a resolved config."""
        super().__init__(config, paired_encoder(config["bert_config"]), classes=2)

    def seen_images(self, images: Tensor) -> list[Tensor]:
        """A batch's images are all left ones, then all right ones."""
        return left_and_right(images)
