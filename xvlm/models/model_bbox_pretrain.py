"""The stage before grounding by boxes: the region stream of pre-training with its box losses alone.

Source: docs/official/xvlm.md §5.4, §7.4.
"""

from __future__ import annotations

from typing import Any, ClassVar

from torch import Tensor

from vlp.nn.fusion_bert import FusionEncoder
from vlp.nn.heads import classifier
from vlp.nn.step_plan import plan_of
from xvlm.models.xvlm import XvlmBase, text_sizes


class XVLM(XvlmBase):
    """The official model class of this stage; it has no evaluation."""

    since_start: ClassVar = True
    meters: ClassVar = {"loss_bbox": "bbox_loss", "loss_giou": "giou_loss"}

    def __init__(self, config: dict[str, Any]) -> None:
        """``config`` is a resolved config."""
        width = config["text_config"]["hidden_size"]
        encoder = FusionEncoder(text_sizes(config))
        super().__init__(config, text_encoder=encoder, bbox_head=classifier(width, 2 * width, 4))

    def forward(self, batch: dict[str, Any]) -> dict[str, Any]:
        """Both losses of one training batch, of regions or of images with one phrase each."""
        return self.box_losses(self.predicted(batch), batch)

    def predicted(self, batch: dict[str, Any]) -> Tensor:
        """(B, 4) as (cx, cy, w, h), relative to the whole image that a phrase is about."""
        layout = self.text_layout(plan_of(batch)["text"])
        text = self.bert.text(batch["text_ids"], layout)
        return self.boxes(self.vision_encoder(batch["image"]), text, layout, batch.get("idx_to_group_img"))
