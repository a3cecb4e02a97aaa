"""METER's NLVR2 logits and loss: one statement, two images (docs/official/meter.md §7.3)."""

from __future__ import annotations

import torch
import torch.nn.functional as F

from tests.parity.replays import PLAIN, TRAINING_PATH, Fixture, Outputs, replay
from tests.parity.replays.filling import built_outputs
from tests.parity.replays.meter_models import batch_of, described_pass, filled_model, pooled


@replay("meter", "nlvr2", modes=(PLAIN, TRAINING_PATH))
@torch.no_grad()
def nlvr2(fixture: Fixture, mode: str) -> Outputs:
    model, batch = filled_model(fixture), batch_of(fixture)
    labels = torch.from_numpy(fixture.inputs["answers"]).long()
    yield from built_outputs(fixture, model)
    if mode == TRAINING_PATH:
        for i in range(2):
            yield f"cls_feats_{i + 1}", pooled(model, batch, f"image_{i}", token_type=i + 1)
        yield from model({**batch, "answers": labels.bool().tolist()}).items()
        return
    first, _ = described_pass(model, "first", batch, batch["image_0"][0], token_type=1)
    last, outputs = described_pass(model, "last", batch, batch["image_1"][0], token_type=2)
    yield from outputs
    yield "cls_feats_1", first["cls_feats"]
    yield "cls_feats_2", last["cls_feats"]
    logits = model.nlvr2_classifier(torch.cat([first["cls_feats"], last["cls_feats"]], dim=1))
    yield "nlvr2_logits", logits
    yield "nlvr2_loss", F.cross_entropy(logits, labels)
