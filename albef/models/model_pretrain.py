"""ALBEF's pre-training: contrast, matching and masked language modelling with momentum distillation.

Source: docs/official/albef.md §5.
"""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from torch import Tensor

from albef.models.contrastive_model import ContrastiveModel, Momentum
from vlp.losses.distillation import distilled_cross_entropy
from vlp.nn.cross_attention import Seen
from vlp.nn.fusion_bert import FusionMaskedLM
from vlp.nn.fusion_passes import FusionPass, Negatives, encode_together, match
from vlp.nn.padding import PaddedLayout, QuerySubset
from vlp.nn.step_plan import plan_of

TEMPERATURES = (0.001, 0.5)


class ALBEF(ContrastiveModel):
    """The official model class of pre-training."""

    text_encoder: FusionMaskedLM
    pretraining: ClassVar = True
    meters: ClassVar = {"loss_mlm": "mlm_loss", "loss_ita": "ita_loss", "loss_itm": "itm_loss"}

    def __init__(self, config: dict[str, Any]) -> None:
        """``config`` is a resolved config."""
        super().__init__(config, FusionMaskedLM(config["bert_config"]))
        # EPIC >
        self.epic: Any = None  # an AlbefEpic, set by attach_epic
        # < EPIC

    def forward(self, batch: dict[str, Any], alpha: float, negatives: Negatives | None = None) -> dict[str, Any]:
        """The three losses of one training batch; the momentum models and the queues move on.

        Args:
            alpha: weight of the momentum models' soft targets.
            negatives: the negatives of matching; by default they are drawn.
        """
        with torch.no_grad():
            self.temp.clamp_(*TEMPERATURES)
        plan = plan_of(batch)
        layout = self.text_layout(plan["text"])
        sentences = [batch["text_ids"], batch["text_ids_mlm"]]
        image = self.visual_encoder(batch["image"])
        momentum = self.momentum_states(batch["image"], sentences, layout)
        # EPIC >
        scores = None
        if self.epic is not None:
            momentum, scores = self.epic.momentum_scores(self, momentum, layout)
        # < EPIC
        passes = [self.mlm_pass(batch, plan, layout, momentum, alpha)]
        # EPIC >
        if self.epic is not None:
            passes.append(self.epic.to_pass(self, batch, layout, image, scores))
        # < EPIC
        text, *of_passes = encode_together(self.bert, [batch["text_ids"], *(each.ids for each in passes)], layout)

        own = torch.eye(len(image), len(image) + self.image_queue.shape[1], device=image.device)
        outputs, similar = self.contrast(self.image_feat(image), self.text_feat(text, layout), momentum, own, alpha)
        self.enqueue_features(momentum)
        if negatives is None:
            negatives = self.hard_negatives(similar, own[:, : len(image)].bool())
        return outputs | match(self.bert, self.itm_head, image, text, layout, negatives, passes, of_passes)

    # EPIC >
    def parameter_groups(self) -> list[dict[str, Any]]:
        groups = super().parameter_groups()
        if self.epic is not None:
            groups = self.epic.own_groups(groups, self.config["optimizer"]["lr"], head_factor=1.0)
        return groups

    # < EPIC
    def mlm_pass(
        self, batch: dict[str, Any], plan: dict[str, Any], layout: PaddedLayout, momentum: Momentum, alpha: float
    ) -> FusionPass:
        """Masked sentences; the momentum model, which sees them too, gives soft targets."""
        read = plan["mlm"]
        labels = batch["text_labels_mlm"][read.row, read.place]
        with torch.no_grad():
            subset, start = QuerySubset(layout, read), momentum.fused_to
            states = self.bert_m.fuse(momentum.texts[1], layout, momentum.image, Seen(), subset, start)
            soft: Tensor = self.text_encoder_m.logits(states)

        def finish(states: Tensor) -> dict[str, Any]:
            logits = self.text_encoder.logits(states)
            loss = distilled_cross_entropy(logits, labels, soft, alpha)
            return {"mlm_loss": loss, "mlm_logits": logits, "mlm_labels": labels}

        return FusionPass(batch["text_ids_mlm"], read, finish)
