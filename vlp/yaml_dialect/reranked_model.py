"""What the retrieval models of ALBEF and X-VLM share: the evaluation of a split by k_test re-ranking.

Source: docs/official/albef.md §7, docs/official/xvlm.md §7.1.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from vlp.data.tokenizers import encode
from vlp.evaluation.reranked_retrieval import (
    TEXTS_PER_BATCH,
    RerankedRetrieval,
    RerankedScores,
    check_k_test,
    official_metrics,
)
from vlp.evaluation.score_blocks import blocks_of
from vlp.nn.padding import PaddedLayout, UnpaddedLayout
from vlp.yaml_dialect.epoch_module import EpochModule


class RerankedModel(EpochModule):
    """A subclass encodes both sides and scores pairs; ``config["k_test"]`` candidates of each row are scored."""

    _evaluation: RerankedRetrieval | None = None

    @property
    def most_text_tokens(self) -> int:
        """Of an evaluated text."""
        raise NotImplementedError

    def text_states(self, ids: Tensor, layout: PaddedLayout) -> tuple[Tensor, Tensor]:
        """ids (C, n) -> states below the fusion layers, stored as the layout says, and features (C, embed_dim)."""
        raise NotImplementedError

    def image_states(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """images (B, 3, S, S) -> (B, N, d), features (B, embed_dim)."""
        raise NotImplementedError

    def match_scores(self, states: Tensor, layout: UnpaddedLayout, image: Tensor) -> Tensor:
        """P texts, states stored as the layout says, all with one image, states (1, N, d) -> match logits (P,)."""
        raise NotImplementedError

    def check_data(self, datamodule: Any) -> None:
        """Refuse a ``k_test`` that an evaluation cannot have."""
        for split in datamodule.eval_splits:
            images = datamodule.sets[split]
            check_k_test(self.config["k_test"], len(images), len(images.text), split)

    def start_evaluation(self, split: str) -> None:
        datamodule: Any = self.trainer.datamodule  # type: ignore[attr-defined]
        texts, images = datamodule.sets[split].text, len(datamodule.sets[split])
        k_test, rank, world = self.config["k_test"], self.global_rank, self.trainer.world_size
        blocks = blocks_of(self.trainer, self)
        self._evaluation = RerankedRetrieval(self, images, len(texts), k_test, split, rank, world, blocks)
        for start in range(0, len(texts), TEXTS_PER_BATCH):
            encoded = encode(datamodule.tokenizer, texts[start : start + TEXTS_PER_BATCH], self.most_text_tokens)
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
