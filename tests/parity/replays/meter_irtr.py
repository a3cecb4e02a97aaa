"""METER's retrieval fine-tuning: scores of every candidate caption, ranking and matching losses.

Source: docs/official/meter.md §7.1.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from meter.modules.meter_module import METERTransformerSS
from tests.parity.replays import PLAIN, TRAINING_PATH, Fixture, Outputs, replay
from tests.parity.replays.filling import built_outputs
from tests.parity.replays.meter_models import (
    Batch,
    batch_of,
    described_pass,
    filled_model,
    mixed_images,
    pooled,
)


@replay("meter", "irtr", modes=(PLAIN, TRAINING_PATH))
@torch.no_grad()
def irtr(fixture: Fixture, mode: str) -> Outputs:
    model, batch = filled_model(fixture), batch_of(fixture)
    itm_labels = torch.from_numpy(fixture.choices["itm_labels"]).long()
    yield from built_outputs(fixture, model)
    if mode == TRAINING_PATH:
        outputs = model(batch, itm_labels)
        yield "cls_feats", pooled(model, batch)
        yield "irtr_scores", outputs["irtr_logits"]
        yield from outputs.items()
        return
    yield from _plain(model, batch, itm_labels)


def _plain(model: METERTransformerSS, batch: Batch, itm_labels: Tensor) -> Outputs:
    result, outputs = described_pass(model, "last", batch, batch["image"][0])
    yield from outputs
    yield "cls_feats", result["cls_feats"]
    names = ["text", *(f"false_text_{i}" for i in range(model.config["draw_false_text"]))]
    candidates = [{**batch, **{f"text_{kind}": batch[f"{name}_{kind}"] for kind in ("ids", "masks")}} for name in names]
    scores = torch.cat([model.rank_output(model.infer(texts)["cls_feats"]) for texts in candidates], dim=1)
    yield "irtr_scores", scores
    yield "irtr_loss", F.cross_entropy(scores, torch.zeros_like(itm_labels))
    itm_logits = model.itm_score(model.infer(batch, img=mixed_images(batch, itm_labels))["cls_feats"])
    yield "itm_logits", itm_logits
    yield "itm_loss", F.cross_entropy(itm_logits, itm_labels)
