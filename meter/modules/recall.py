"""Zero-shot and fine-tuned retrieval of METER: every image against every caption (SPEC §7.1).

Each tower runs once per image and once per caption; only the fusion is pairwise. The official loop re-encodes both
for every pair; the scores are the same.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor

from vlp.data.tokenizers import encode
from vlp.evaluation.recall import Recalls, recalls
from vlp.nn.attention import trim_padding
from vlp.training.distributed import sum_across_ranks
from vlp.training.progress import CountProgress

if TYPE_CHECKING:
    from meter.modules.meter_module import METERTransformerSS

CAPTION_BATCH = 64


class EncodedCaptions(NamedTuple):
    """Captions ready for fusion."""

    states: Tensor  # (C, n, d)
    mask: Tensor  # (C, n)


@torch.no_grad()
def compute_irtr_recall(model: METERTransformerSS) -> Recalls:
    """Recalls of the evaluation split; images are divided among the ranks, captions are not."""
    scores, caption_image = retrieval_scores(model)
    return recalls(scores.float().cpu(), caption_image)


def retrieval_scores(model: METERTransformerSS) -> tuple[Tensor, Tensor]:
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
        scores[i] = score_image(model, images[i]["image"][0], encoded)
        progress.advance()
    return sum_across_ranks(scores), torch.as_tensor(captions.tables.rows).long()


def encode_captions(model: METERTransformerSS, texts: list[str]) -> list[EncodedCaptions]:
    """Text states that enter the fusion, in batches."""
    tokenizer, length = model.trainer.datamodule.tokenizer, model.config["max_text_len"]  # type: ignore[attr-defined]
    encoded = []
    for start in range(0, len(texts), CAPTION_BATCH):
        batch = encode(tokenizer, texts[start : start + CAPTION_BATCH], length)
        mask, ids = trim_padding(*(torch.tensor(rows, device=model.device) for rows in (batch.masks, batch.ids)))
        with _half_precision(model):
            encoded.append(EncodedCaptions(model.encode_text(ids, mask), mask))
    return encoded


def score_image(model: METERTransformerSS, image: Tensor, captions: list[EncodedCaptions]) -> Tensor:
    """image (3, S, S) against all captions -> (M,) scores of the rank head."""
    with _half_precision(model):
        states = model.encode_image(image[None].to(model.device))
        scores = [
            model.rank_output(
                model.pool(model.fuse(c.states, c.mask, states.expand(len(c.mask), -1, -1), pooled_only=True))
            )
            for c in captions
        ]
    return torch.cat(scores).squeeze(1)


def _half_precision(model: METERTransformerSS) -> torch.autocast:
    """The official evaluation runs in fp16 on GPUs."""
    return torch.autocast(model.device.type, torch.float16, enabled=model.device.type == "cuda")
