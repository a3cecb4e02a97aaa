"""Zero-shot and fine-tuned retrieval of METER and ViLT: every image against every caption.

What does not depend on the pair is computed once per image and once per caption. The official loops repeat it for
every pair; the scores are the same.

Source: docs/official/meter.md §7.1, docs/official/vilt.md §7.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from vlp.data.tokenizers import encode
from vlp.data.trim import trim_padding
from vlp.distributed import sum_across_ranks
from vlp.evaluation.recall import Recalls, recalls
from vlp.training.progress import CountProgress

if TYPE_CHECKING:
    from vlp.sacred_dialect.task_module import TaskModule

CAPTION_BATCH = 64


@torch.no_grad()
def compute_irtr_recall(model: TaskModule) -> Recalls:
    """Recalls of the evaluation split; images are divided among the ranks, captions are not."""
    scores, caption_image = retrieval_scores(model)
    return recalls(scores.float().cpu(), caption_image)


def retrieval_scores(model: TaskModule) -> tuple[Tensor, Tensor]:
    """scores (N images, M captions) of all pairs, on every rank, and the image of each caption (M,)."""
    datamodule = model.trainer.datamodule  # type: ignore[attr-defined]
    key = model.config["datasets"][0]
    split = "test" if model.trainer.testing else "val"
    captions = datamodule.dataset(key, split, false_draws=False)
    images = datamodule.dataset(key, split, image_only=True, false_draws=False)
    encoded = encode_captions(model, [captions.tables.text(i) for i in range(len(captions))])
    world, rank = model.trainer.world_size, model.trainer.global_rank
    scores = torch.zeros(len(images), len(captions), device=model.device)
    own = range(rank, len(images), world)
    progress = CountProgress("retrieval", "images", len(own), show=rank == 0)
    for i in own:
        with _half_precision(model):
            scores[i] = model.score_captions(images[i]["image"][0].to(model.device), encoded)
        progress.advance()
    return sum_across_ranks(scores), torch.as_tensor(captions.tables.rows).long()


def encode_captions(model: TaskModule, texts: list[str]) -> list[Any]:
    """``caption_states`` of all texts, in batches."""
    tokenizer, length = model.trainer.datamodule.tokenizer, model.config["max_text_len"]  # type: ignore[attr-defined]
    encoded = []
    for start in range(0, len(texts), CAPTION_BATCH):
        batch = encode(tokenizer, texts[start : start + CAPTION_BATCH], length)
        mask, ids = trim_padding(*(torch.tensor(rows, device=model.device) for rows in (batch.masks, batch.ids)))
        with _half_precision(model):
            encoded.append(model.caption_states(ids, mask))
    return encoded


def _half_precision(model: TaskModule) -> torch.autocast:
    """The official evaluations run in fp16 on GPUs."""
    return torch.autocast(model.device.type, torch.float16, enabled=model.device.type == "cuda")
