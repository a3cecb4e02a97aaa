"""METER's SNLI-VE logits and loss (docs/official/meter.md §7.4)."""

from __future__ import annotations

import torch
import torch.nn.functional as F

from tests.parity.replays import PLAIN, TRAINING_PATH, Fixture, Outputs, once, replay
from tests.parity.replays.filling import built_outputs
from tests.parity.replays.meter_models import batch_of, described_pass, filled_model, pooled


@replay("meter", "snli", modes=(PLAIN, TRAINING_PATH))
@torch.no_grad()
def snli(fixture: Fixture, mode: str) -> Outputs:
    model, batch = filled_model(fixture), batch_of(fixture, "image")
    labels = once(lambda: torch.from_numpy(fixture.inputs["labels"]).long())
    yield from built_outputs(fixture, model)
    if mode == TRAINING_PATH:
        yield "cls_feats", pooled(model, batch)
        yield from model(batch.whole().also(labels=labels().tolist())).items()
        return
    result, outputs = described_pass(model, "last", batch, batch["image"][0])
    yield from outputs
    yield "cls_feats", result["cls_feats"]
    logits = model.snli_classifier(result["cls_feats"])
    yield "snli_logits", logits
    yield "snli_loss", lambda: F.cross_entropy(logits, labels())
