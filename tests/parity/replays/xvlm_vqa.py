"""X-VLM's VQA: loading, states, the training loss, and candidates ranked (docs/official/xvlm.md §7.2)."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from tests.parity.replays import PLAIN, TRAINING_PATH, Fixture, Given, Outputs, once, piece, replay
from tests.parity.replays.xvlm_models import loaded_sums, model_of, tensor
from vlp.nn.cross_attention import Seen
from vlp.nn.padding import PaddedLayout
from xvlm.models.model_vqa import XVLM

_NAMES = {
    **{"image": "image", "text_ids": "question_ids", "text_masks": "question_atts"},
    **{"answer_ids": "answer_ids", "answer_masks": "answer_atts", "answer_weights": "weights"},
    "answer_counts": "k",
}


@replay("xvlm", "vqa", modes=(PLAIN, TRAINING_PATH))
@torch.no_grad()
def vqa(fixture: Fixture, mode: str) -> Outputs:
    model, batch = model_of(fixture, mode), Given.renamed(fixture.inputs, _NAMES, tensor)
    yield from loaded_sums(fixture, model)
    yield "loss", once(lambda: model(_step(batch))["vqa_loss"])
    if mode == PLAIN:
        yield from _plain(model, batch)
    else:
        yield "answer_loss", once(lambda: _answer_losses(model, _step(batch)))
    if fixture.stores("topk_"):
        questions = Given({name: batch[name] for name in ("image", "text_ids", "text_masks")})
        ranking = model.rank(questions, *(tensor(fixture.inputs[f"cand_{name}"]) for name in ("ids", "atts")))
        yield "topk_ids", ranking.ids
        yield "topk_probs", ranking.probabilities


def _step(batch: Given) -> Given:
    return batch.whole().also(answer_counts=batch["answer_counts"].tolist())


@piece
def _plain(model: XVLM, batch: Given) -> Outputs:
    """At every token, each answer with a copy of its question's states."""
    mask = batch["text_masks"].bool()
    states = model.text_encoder(batch["text_ids"], PaddedLayout(mask), model.vision_encoder(batch["image"]), Seen())
    yield "question_states", states
    counts = batch["answer_counts"]
    states, mask = (each.repeat_interleave(counts, dim=0) for each in (states, mask))
    tokens = batch["answer_masks"].bool()
    decoded = model.text_decoder.bert(batch["answer_ids"], PaddedLayout(tokens), states, Seen(mask=mask))
    logits = model.text_decoder.logits(decoded)
    yield "decoder_logits", logits
    targets = batch["answer_ids"].masked_fill(~tokens, -100)[:, 1:]
    yield "answer_loss", F.cross_entropy(logits[:, :-1].transpose(1, 2), targets, reduction="none").sum(dim=1)


def _answer_losses(model: XVLM, batch: Given) -> Tensor:
    """Each answer's own, as the training loss with its weight alone, once for each image of the batch."""
    answers = len(batch["answer_ids"])
    alone = torch.eye(answers) * len(batch["text_ids"])
    return torch.stack([model(batch.also(answer_weights=weights))["vqa_loss"] for weights in alone])
