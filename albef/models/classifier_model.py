"""What SNLI-VE and NLVR2 share: a class for each text and its images, and the accuracy.

Source: docs/official/albef.md §7.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from albef.models.finetuned_model import FineTunedModel, classifier
from vlp.losses.distillation import distilled_cross_entropy
from vlp.nn.fusion_bert import FusionEncoder
from vlp.nn.step_plan import plan_of
from vlp.yaml_dialect.classified_model import ClassifiedModel


class ClassifierModel(ClassifiedModel, FineTunedModel):
    """A subclass says which loss it is, and which images a text sees."""

    loss_name: str

    def __init__(self, config: dict[str, Any], text_encoder: FusionEncoder, classes: int) -> None:
        head = classifier(config["bert_config"]["hidden_size"], classes)
        super().__init__(config, text_encoder=text_encoder, cls_head=head)

    def seen_images(self, images: Tensor) -> Tensor | list[Tensor]:
        """What the fusion layers attend to, of all encoded images (…, N, d)."""
        return images

    def forward(self, batch: dict[str, Any], alpha: float) -> dict[str, Any]:
        """The loss of one training batch; the momentum models move on."""
        soft = None
        if self.config["distill"]:
            with torch.no_grad():
                self.follow()
                soft = self.class_logits(batch, momentum=True)
        logits = self.class_logits(batch)
        loss = distilled_cross_entropy(logits, batch["labels"], soft, alpha)
        return {self.loss_name: loss, "logits": logits, "momentum_logits": soft}

    def class_logits(self, batch: dict[str, Any], momentum: bool = False) -> Tensor:
        """(B, classes), of the trained models or of their momentum copies."""
        layout = self.text_layout(plan_of(batch)["text"])
        images = self.seen_images(self.part("visual_encoder", momentum)(batch["image"]))
        states = self.part("text_encoder", momentum).first_states(batch["text_ids"], layout, images)
        logits: Tensor = self.part("cls_head", momentum)(states)
        return logits
