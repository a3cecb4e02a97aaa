"""X-VLM's retrieval: contrast and matching with several captions of an image, and k_test re-ranking.

Source: docs/official/xvlm.md §5, §7.1.
"""

from __future__ import annotations

from typing import Any, ClassVar

from torch import Tensor

from vlp.evaluation.reranked_retrieval import fused_first_tokens
from vlp.nn.fusion_bert import FusionEncoder
from vlp.nn.fusion_passes import Negatives
from vlp.nn.heads import classifier
from vlp.nn.padding import PaddedLayout, UnpaddedLayout
from vlp.nn.step_plan import plan_of
from vlp.yaml_dialect.reranked_model import RerankedModel
from xvlm.models.xvlm import XvlmBase, contrast_parts, text_sizes


class XVLM(RerankedModel, XvlmBase):
    """The official model class of retrieval and of weakly supervised grounding."""

    meters: ClassVar = {"loss_itm": "itm_loss", "loss_itc": "itc_loss"}

    def __init__(self, config: dict[str, Any]) -> None:
        """``config`` is a resolved config."""
        width = config["text_config"]["hidden_size"]
        super().__init__(
            config,
            text_encoder=FusionEncoder(text_sizes(config)),
            **contrast_parts(config),
            itm_head=classifier(width, 2 * width, 2),
        )

    # Training --------------------------------------------------------------------------------------------

    def forward(self, batch: dict[str, Any], negatives: Negatives | None = None) -> dict[str, Any]:
        """Both losses of one training batch; captions of one image (``image_id``) are positives of each other.

        A pair whose batch has no other image is a positive of matching and has no negatives.

        Args:
            negatives: the negatives of matching; by default they are drawn.
        """
        layout = self.text_layout(plan_of(batch)["text"])
        image, image_feat = self.image_states(batch["image"])
        text, text_feat = self.text_states(batch["text_ids"], layout)
        outputs = self.contrast(image_feat, text_feat, batch["image_id"])
        if negatives is None:
            negatives = self.hard_negatives(image_feat, text_feat, batch["image_id"])
        return outputs | self.match(image, text, layout, negatives)

    # Evaluation ------------------------------------------------------------------------------------------

    @property
    def most_text_tokens(self) -> int:
        return self.config["max_tokens"]

    def text_states(self, ids: Tensor, layout: PaddedLayout) -> tuple[Tensor, Tensor]:
        states = self.bert.text(ids, layout)
        return states, self.text_feat(states, layout)

    def image_states(self, images: Tensor) -> tuple[Tensor, Tensor]:
        states = self.vision_encoder(images)
        return states, self.image_feat(states)

    def match_scores(self, states: Tensor, layout: UnpaddedLayout, image: Tensor) -> Tensor:
        return self.itm_head(fused_first_tokens(self.bert, states, layout, image))[:, 1]
