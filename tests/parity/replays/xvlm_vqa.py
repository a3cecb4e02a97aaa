"""X-VLM's VQA: loading, states, the training loss, and candidates ranked (docs/official/xvlm.md §7.2)."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from tests.parity.replays import PLAIN, TRAINING_PATH, Fixture, Outputs, replay
from tests.parity.replays.xvlm_models import Batch, loaded_sums, model_of, tensor
from vlp.nn.cross_attention import Seen
from vlp.nn.padding import PaddedLayout
from xvlm.models.model_vqa import XVLM

_NAMES = {
    **{"image": "image", "text_ids": "question_ids", "text_masks": "question_atts"},
    **{"answer_ids": "answer_ids", "answer_masks": "answer_atts", "answer_weights": "weights"},
}


@replay("xvlm", "vqa", modes=(PLAIN, TRAINING_PATH))
@torch.no_grad()
def vqa(fixture: Fixture, mode: str) -> Outputs:
    given, model = fixture.inputs, model_of(fixture, mode)
    yield from loaded_sums(fixture, model)
    batch: Batch = {ours: tensor(given[official]) for ours, official in _NAMES.items() if official in given}
    if "answer_ids" in batch:
        batch["answer_counts"] = tensor(given["k"]).tolist()
        yield "loss", model(batch)["vqa_loss"]
        yield from _plain(model, batch) if mode == PLAIN else [("answer_loss", _answer_losses(model, batch))]
    if "cand_ids" in given:
        ranking = model.rank(batch, tensor(given["cand_ids"]), tensor(given["cand_atts"]))
        yield "topk_ids", ranking.ids
        yield "topk_probs", ranking.probabilities


def _plain(model: XVLM, batch: Batch) -> Outputs:
    """At every token, each answer with a copy of its question's states."""
    counts = torch.tensor(batch["answer_counts"])
    mask = batch["text_masks"].bool()
    states = model.text_encoder(batch["text_ids"], PaddedLayout(mask), model.vision_encoder(batch["image"]), Seen())
    yield "question_states", states
    states, mask = (each.repeat_interleave(counts, dim=0) for each in (states, mask))
    tokens = batch["answer_masks"].bool()
    decoded = model.text_decoder.bert(batch["answer_ids"], PaddedLayout(tokens), states, Seen(mask=mask))
    logits = model.text_decoder.logits(decoded)
    yield "decoder_logits", logits
    targets = batch["answer_ids"].masked_fill(~tokens, -100)[:, 1:]
    yield "answer_loss", F.cross_entropy(logits[:, :-1].transpose(1, 2), targets, reduction="none").sum(dim=1)


def _answer_losses(model: XVLM, batch: Batch) -> Tensor:
    """Each answer's own, as the training loss with its weight alone, once for each image of the batch."""
    answers = len(batch["answer_ids"])
    alone = torch.eye(answers) * len(batch["text_ids"])
    return torch.stack([model({**batch, "answer_weights": weights})["vqa_loss"] for weights in alone])
