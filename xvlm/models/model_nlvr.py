"""NLVR2: is a statement true of two images (docs/official/xvlm.md §7.3)."""

from __future__ import annotations

from typing import Any, ClassVar

from torch import Tensor, nn

from vlp.losses.cross_entropy import mean_cross_entropy
from vlp.nn.heads import classifier
from vlp.nn.paired_encoder import left_and_right, paired_encoder
from vlp.nn.step_plan import plan_of
from vlp.yaml_dialect.classified_model import ClassifiedModel
from xvlm.models.xvlm import XvlmBase, text_sizes


class XVLM(ClassifiedModel, XvlmBase):
    """The official model class of NLVR2.

    Its script officially gives no parameter another learning rate, the head's neither.
    """

    meters: ClassVar = {"loss": "nlvr_loss"}
    cls_head: nn.Sequential

    def __init__(self, config: dict[str, Any]) -> None:
        """``config`` is a resolved config."""
        width = config["text_config"]["hidden_size"]
        super().__init__(
            config, text_encoder=paired_encoder(text_sizes(config)), cls_head=classifier(width, 2 * width, 2)
        )

    def forward(self, batch: dict[str, Any]) -> dict[str, Any]:
        """The loss of one training batch."""
        logits = self.class_logits(batch)
        return {"nlvr_loss": mean_cross_entropy(logits, batch["labels"]), "logits": logits}

    def class_logits(self, batch: dict[str, Any]) -> Tensor:
        """(B, 2) of B statements and 2B images, all left ones first; column 1 = true."""
        layout = self.text_layout(plan_of(batch)["text"])
        images = left_and_right(self.vision_encoder(batch["image"]))
        return self.cls_head(self.bert.first_states(batch["text_ids"], layout, images))
