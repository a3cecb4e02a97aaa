"""ALBEF's retrieval evaluation: k_test re-ranking in both directions, and the metrics (docs/official/albef.md §7)."""

from __future__ import annotations

import torch

from albef.models.model_retrieval import ALBEF
from tests.parity.replays import PLAIN, TRAINING_PATH, Fixture, Outputs, replay
from tests.parity.replays.albef_models import model_of, tensor
from vlp.evaluation.reranked_retrieval import (
    UNSCORED,
    RerankedRetrieval,
    RerankedScores,
    official_metrics,
)
from vlp.nn.cross_attention import Seen
from vlp.nn.padding import PaddedLayout


@replay("albef", "retrieval_eval", modes=(PLAIN, TRAINING_PATH))
@torch.no_grad()
def retrieval_eval(fixture: Fixture, mode: str) -> Outputs:
    model = model_of(ALBEF, fixture, mode)
    scores = _plain(fixture, model) if mode == PLAIN else _ours(fixture, model)
    yield "score_i2t", scores.image_to_text
    yield "score_t2i", scores.text_to_image
    counts = tensor(fixture.inputs["captions_per_image"])
    text_image = torch.arange(len(counts)).repeat_interleave(counts)
    for name, value in official_metrics(scores, text_image).items():
        yield f"metric.{name}", torch.tensor(value, dtype=torch.float64)


def _ours(fixture: Fixture, model: ALBEF) -> RerankedScores:
    images, ids, mask = (tensor(fixture.inputs[name]) for name in ("image", "input_ids", "attention_mask"))
    evaluation = RerankedRetrieval(model, len(images), len(ids), fixture.config["k_test"], "test")
    for rows in torch.arange(len(ids)).split(4):
        evaluation.add_texts(ids[rows], mask[rows])
    for rows in torch.arange(len(images)).split(2):
        evaluation.add_images(images[rows], rows)
    return evaluation.scores()


def _plain(fixture: Fixture, model: ALBEF) -> RerankedScores:
    """Each direction by itself, every pair with its padding and its own copy of the image."""
    images, ids, mask = (tensor(fixture.inputs[name]) for name in ("image", "input_ids", "attention_mask"))
    states, image_feat = model.image_states(images)
    text, text_feat = model.text_states(ids, PaddedLayout(mask.bool()))
    similarities, k = image_feat @ text_feat.T, fixture.config["k_test"]
    matrices = torch.full((len(images), len(ids)), UNSCORED), torch.full((len(ids), len(images)), UNSCORED)
    for i, best in enumerate(similarities.topk(k, dim=1).indices):
        of_image = states[i].expand(k, -1, -1)
        fused = model.bert.fuse(text[best], PaddedLayout(mask[best].bool()), of_image, Seen())
        matrices[0][i, best] = model.itm_head(fused[:, 0])[:, 1]
    for t, best in enumerate(similarities.T.topk(k, dim=1).indices):
        layout = PaddedLayout(mask[t].bool().expand(k, -1))
        fused = model.bert.fuse(text[t].expand(k, -1, -1), layout, states[best], Seen())
        matrices[1][t, best] = model.itm_head(fused[:, 0])[:, 1]
    return RerankedScores(*matrices)
