"""METER's retrieval fine-tuning: scores of every candidate caption, ranking and matching losses.

Source: docs/official/meter.md §7.1.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from meter.modules.meter_module import METERTransformerSS
from tests.parity.replays import PLAIN, TRAINING_PATH, Fixture, Given, Outputs, piece, replay
from tests.parity.replays.filling import built_outputs, candidates, false_texts
from tests.parity.replays.meter_models import (
    batch_of,
    described_pass,
    filled_model,
    mixed_images,
    pooled,
)


@replay("meter", "irtr", modes=(PLAIN, TRAINING_PATH))
@torch.no_grad()
def irtr(fixture: Fixture, mode: str) -> Outputs:
    model, batch = filled_model(fixture), batch_of(fixture, "image", "false_image_0", *false_texts(fixture))
    yield from built_outputs(fixture, model)
    if mode == TRAINING_PATH:
        yield "cls_feats", pooled(model, batch)
        outputs = model(batch.whole(), _itm_labels(fixture))
        yield "irtr_scores", outputs["irtr_logits"]
        yield from outputs.items()
        return
    result, described = described_pass(model, "last", batch, batch["image"][0])
    yield from described
    yield "cls_feats", result["cls_feats"]
    yield from _ranked(fixture, model, batch)
    yield from _matched(fixture, model, batch)


def _itm_labels(fixture: Fixture) -> Tensor:
    return torch.from_numpy(fixture.choices["itm_labels"]).long()


@piece
def _ranked(fixture: Fixture, model: METERTransformerSS, batch: Given) -> Outputs:
    scores = torch.cat([model.rank_output(model.infer(t)["cls_feats"]) for t in candidates(fixture, batch)], dim=1)
    yield "irtr_scores", scores
    yield "irtr_loss", F.cross_entropy(scores, torch.zeros(len(scores)).long())


@piece
def _matched(fixture: Fixture, model: METERTransformerSS, batch: Given) -> Outputs:
    itm_labels = _itm_labels(fixture)
    itm_logits = model.itm_score(model.infer(batch, img=mixed_images(batch, itm_labels))["cls_feats"])
    yield "itm_logits", itm_logits
    yield "itm_loss", F.cross_entropy(itm_logits, itm_labels)
