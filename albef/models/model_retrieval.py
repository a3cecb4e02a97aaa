"""ALBEF's retrieval: contrast and matching with several captions of an image, and k_test re-ranking.

Source: docs/official/albef.md §7.
"""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from torch import Tensor

from albef.models.contrastive_model import ContrastiveModel
from vlp.data.tokenizers import encode
from vlp.evaluation.reranked_retrieval import (
    TEXTS_PER_BATCH,
    RerankedRetrieval,
    RerankedScores,
    check_k_test,
    fused_first_tokens,
    official_metrics,
)
from vlp.nn.fusion_bert import FusionEncoder
from vlp.nn.fusion_passes import Negatives, match
from vlp.nn.padding import PaddedLayout, UnpaddedLayout
from vlp.nn.step_plan import plan_of

MAX_TEXT_LENGTH = 30  # tokens of an evaluated text


class ALBEF(ContrastiveModel):
    """The official model class of retrieval and grounding."""

    text_encoder: FusionEncoder
    idx_queue: Tensor
    meters: ClassVar = {"loss_itm": "itm_loss", "loss_ita": "ita_loss"}

    def __init__(self, config: dict[str, Any]) -> None:
        """``config`` is a resolved config."""
        super().__init__(config, FusionEncoder(config["bert_config"]), image_ids=True)
        self._evaluation: RerankedRetrieval | None = None

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

    def text_states(self, ids: Tensor, layout: PaddedLayout) -> tuple[Tensor, Tensor]:
        """ids (C, n) -> states below the fusion layers, stored as the layout says, and features (C, embed_dim)."""
        states = self.bert.text(ids, layout)
        return states, self.text_feat(states, layout)

    def image_states(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """images (B, 3, S, S) -> (B, N, d), features (B, embed_dim)."""
        states = self.visual_encoder(images)
        return states, self.image_feat(states)

    def match_scores(self, states: Tensor, layout: UnpaddedLayout, image: Tensor) -> Tensor:
        """P texts, states stored as the layout says, all with one image, states (1, N, d) -> match logits (P,)."""
        return self.itm_head(fused_first_tokens(self.bert, states, layout, image))[:, 1]

    def check_data(self, datamodule: Any) -> None:
        """Refuse a ``k_test`` that an evaluation cannot have."""
        for split in datamodule.eval_splits:
            images = datamodule.sets[split]
            check_k_test(self.config["k_test"], len(images), len(images.text), split)

    def start_evaluation(self, split: str) -> None:
        datamodule: Any = self.trainer.datamodule  # type: ignore[attr-defined]
        texts, images = datamodule.sets[split].text, len(datamodule.sets[split])
        k_test, rank, world = self.config["k_test"], self.global_rank, self.trainer.world_size
        self._evaluation = RerankedRetrieval(self, images, len(texts), k_test, split, rank, world)
        for start in range(0, len(texts), TEXTS_PER_BATCH):
            encoded = encode(datamodule.tokenizer, texts[start : start + TEXTS_PER_BATCH], MAX_TEXT_LENGTH)
            self._evaluation.add_texts(*map(torch.tensor, encoded))

    def evaluation_step(self, batch: dict[str, Any], split: str) -> None:
        assert self._evaluation is not None
        self._evaluation.add_images(batch["image"], batch["image_index"])

    def evaluation_results(self, split: str) -> dict[str, float]:
        """``txt_r1`` … ``r_mean``; the states of the evaluation are dropped."""
        assert self._evaluation is not None
        evaluation, self._evaluation = self._evaluation, None
        image_of: Any = self.trainer.datamodule.sets[split].txt2img  # type: ignore[attr-defined]
        with self.trainer.precision_plugin.val_step_context():  # which an epoch's end is not in
            scores = RerankedScores(*(matrix.cpu() for matrix in evaluation.scores()))
        return official_metrics(scores, torch.tensor([image_of[text] for text in range(evaluation.texts)]))


def same_image(image_id: Tensor) -> Tensor:
    """(B,) -> (B, B) bool."""
    return image_id[:, None] == image_id[None]
