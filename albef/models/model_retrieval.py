"""ALBEF's retrieval: contrast and matching with several captions of an image, and k_test re-ranking.

Source: docs/official/albef.md §7.
"""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from torch import Tensor

from albef.models.contrastive_model import ContrastiveModel
from vlp.evaluation.reranked_retrieval import fused_first_tokens
from vlp.losses.matching import same_image
from vlp.nn.fusion_bert import FusionEncoder
from vlp.nn.fusion_passes import Negatives, match
from vlp.nn.padding import PaddedLayout, UnpaddedLayout
from vlp.nn.step_plan import plan_of
from vlp.yaml_dialect.reranked_model import RerankedModel

MAX_TEXT_LENGTH = 30  # tokens of an evaluated text


class ALBEF(RerankedModel, ContrastiveModel):
    """The official model class of retrieval and grounding."""

    text_encoder: FusionEncoder
    idx_queue: Tensor
    meters: ClassVar = {"loss_itm": "itm_loss", "loss_ita": "ita_loss"}

    def __init__(self, config: dict[str, Any]) -> None:
        """``config`` is a resolved config."""
        super().__init__(config, FusionEncoder(config["bert_config"]), image_ids=True)

    # Training --------------------------------------------------------------------------------------------

    def forward(self, batch: dict[str, Any], alpha: float, negatives: Negatives | None = None) -> dict[str, Any]:
        """Both losses of one training batch; the momentum models and the queues move on.

        A pair whose batch has no other image is a positive of matching and has no negatives.

        Args:
            alpha: weight of the momentum models' soft targets, if the config says ``distill``.
            negatives: the negatives of matching; by default they are drawn.
        """
        plan = plan_of(batch)
        layout, image_id = self.text_layout(plan["text"]), batch["image_id"]
        image = self.visual_encoder(batch["image"])
        momentum = self.momentum_states(batch["image"], [batch["text_ids"]], layout)
        text = self.bert.text(batch["text_ids"], layout)

        features = self.image_feat(image), self.text_feat(text, layout)
        own = self.true_targets(image_id)
        outputs, similar = self.contrast(*features, momentum, own, alpha if self.config["distill"] else 0.0)
        self.enqueue_features(momentum, image_id)
        if negatives is None:
            negatives = self.hard_negatives(similar, same_image(image_id))
        return outputs | match(self.bert, self.itm_head, image, text, layout, negatives)

    def true_targets(self, image_id: Tensor) -> Tensor:
        """Whose image is the same, in the batch and in the queues: (B,) -> (B, B + Q), each row sums to 1."""
        same = (image_id[:, None] == torch.cat([image_id[None], self.idx_queue], dim=1)).float()
        return same / same.sum(dim=1, keepdim=True)

    # Evaluation ------------------------------------------------------------------------------------------

    @property
    def most_text_tokens(self) -> int:
        return MAX_TEXT_LENGTH

    def text_states(self, ids: Tensor, layout: PaddedLayout) -> tuple[Tensor, Tensor]:
        states = self.bert.text(ids, layout)
        return states, self.text_feat(states, layout)

    def image_states(self, images: Tensor) -> tuple[Tensor, Tensor]:
        states = self.visual_encoder(images)
        return states, self.image_feat(states)

    def match_scores(self, states: Tensor, layout: UnpaddedLayout, image: Tensor) -> Tensor:
        return self.itm_head(fused_first_tokens(self.bert, states, layout, image))[:, 1]
