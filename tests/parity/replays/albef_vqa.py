"""ALBEF's VQA: candidates ranked, then one training call (docs/official/albef.md §7)."""

from __future__ import annotations

import torch
from torch import Tensor

from albef.models.model_vqa import ALBEF
from tests.parity.replays import PLAIN, TRAINING_PATH, Fixture, Outputs, once, piece, replay
from tests.parity.replays.albef_models import Batch, config_of, task_batch, tensor
from vlp.nn.cross_attention import Seen
from vlp.nn.padding import PaddedLayout


@replay("albef", "vqa", modes=(PLAIN, TRAINING_PATH))
@torch.no_grad()
def vqa(fixture: Fixture, mode: str) -> Outputs:
    given = fixture.inputs
    config = config_of(fixture, mode)
    model = ALBEF(config, decoder_layers=fixture.arch["decoder"]["num_hidden_layers"]).eval()
    model.load_state_dict(fixture.fill(model.state_dict()))
    names = {"answer_ids": "answer_ids", "answer_masks": "answer_mask", "answer_weights": "weights"}
    batch = task_batch(fixture, **names, answer_counts="k")
    yield from _ranked(fixture, model)
    if mode == PLAIN:
        yield "question_states", once(lambda: _question_states(model, batch, momentum=False))
        yield "decoder_logits", once(lambda: _decoder_logits(model, batch, momentum=False))
    step = batch.whole().also(answer_counts=batch["answer_counts"].tolist())
    yield "loss", model(step, float(given["alpha"]))["vqa_loss"]  # one momentum update
    if mode == PLAIN:
        yield "decoder_logits_m", _decoder_logits(model, batch, momentum=True)


@piece
def _ranked(fixture: Fixture, model: ALBEF) -> Outputs:
    model.config["k_test"] = int(fixture.inputs["k_test"])
    ranking = model.rank(
        task_batch(fixture), *(tensor(fixture.inputs[f"candidate_{name}"]) for name in ("ids", "mask"))
    )
    yield "topk_ids", ranking.ids
    yield "topk_probs", ranking.probabilities


def _question_states(model: ALBEF, batch: Batch, momentum: bool) -> Tensor:
    layout = PaddedLayout(batch["text_masks"].bool())
    image = model.part("visual_encoder", momentum)(batch["image"])
    states: Tensor = model.part("text_encoder", momentum)(batch["text_ids"], layout, image, Seen())
    return states


def _decoder_logits(model: ALBEF, batch: Batch, momentum: bool) -> Tensor:
    """At every token of every answer, each with a copy of its question's states."""
    counts = batch["answer_counts"]
    states = _question_states(model, batch, momentum).repeat_interleave(counts, dim=0)
    seen = Seen(mask=batch["text_masks"].bool().repeat_interleave(counts, dim=0))
    decoder = model.part("text_decoder", momentum)
    logits: Tensor = decoder.logits(
        decoder.bert(batch["answer_ids"], PaddedLayout(batch["answer_masks"].bool()), states, seen)
    )
    return logits
