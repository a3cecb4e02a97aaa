"""Retrieval of METER and ViLT on the split that a run evaluates.

Source: docs/official/meter.md §7.1, docs/official/vilt.md §7.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from vlp.data.tokenizers import encode
from vlp.data.trim import trim_padding
from vlp.evaluation.recall import Recalls, recalls
from vlp.evaluation.retrieval import score_pairs
from vlp.evaluation.score_blocks import blocks_of
from vlp.sacred_dialect.tasks import Tasks

CAPTION_BATCH = 64


def compute_irtr_recall(model: Tasks) -> Recalls:
    """Recalls of the evaluation split."""
    scores, caption_image = retrieval_scores(model)
    return recalls(scores.float().cpu(), caption_image)


def retrieval_scores(model: Tasks) -> tuple[Tensor, Tensor]:
    """scores (N images, M captions) of all pairs, on every rank, and the image of each caption (M,)."""
    datamodule = model.trainer.datamodule  # type: ignore[attr-defined]
    key = model.config["datasets"][0]
    split = "test" if model.trainer.testing else "val"
    captions = datamodule.dataset(key, split, false_draws=False)
    images = datamodule.dataset(key, split, image_only=True, false_draws=False)
    texts = [captions.tables.text(i) for i in range(len(captions))]
    scores = score_pairs(
        model,
        lambda i: images[i]["image"][0],
        len(images),
        tokenized(datamodule.tokenizer, texts, model.config["max_text_len"]),
        model.trainer.global_rank,
        model.trainer.world_size,
        blocks_of(model.trainer, model),
    )
    return scores, torch.as_tensor(captions.tables.rows).long()


def tokenized(
    tokenizer: PreTrainedTokenizerBase, texts: Sequence[str], max_length: int
) -> Iterator[tuple[Tensor, Tensor]]:
    """Batches of ids (C, n) and mask (C, n), each cut to its longest text."""
    for start in range(0, len(texts), CAPTION_BATCH):
        batch = encode(tokenizer, list(texts[start : start + CAPTION_BATCH]), max_length)
        mask, ids = trim_padding(torch.tensor(batch.masks), torch.tensor(batch.ids))
        yield ids, mask
