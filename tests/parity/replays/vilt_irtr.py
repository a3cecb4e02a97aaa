"""ViLT's retrieval fine-tuning: scores of every candidate caption and the ranking loss (docs/official/vilt.md §7)."""

from __future__ import annotations

import torch
import torch.nn.functional as F

from tests.parity.replays import PLAIN, TRAINING_PATH, Fixture, Outputs, replay
from tests.parity.replays.filling import built_outputs, candidates, false_texts
from tests.parity.replays.vilt_models import batch_of, filled_model, forced_patches, kept_patches


@replay("vilt", "irtr", modes=(PLAIN, TRAINING_PATH))
@torch.no_grad()
def irtr(fixture: Fixture, mode: str) -> Outputs:
    model = filled_model(fixture)
    yield from built_outputs(fixture, model)
    batch = batch_of(fixture, mode, "image", *false_texts(fixture))
    with forced_patches(kept_patches(fixture, batch)):
        if mode == TRAINING_PATH:
            outputs = model(batch.whole())
            yield "rank_scores", outputs["irtr_logits"]
            yield "irtr_loss", outputs["irtr_loss"]
            return
        scores = torch.cat([model.rank_output(model.infer(t)["cls_feats"]) for t in candidates(fixture, batch)], dim=1)
    yield "rank_scores", scores
    yield "irtr_loss", F.cross_entropy(scores, torch.zeros(len(scores)).long())
