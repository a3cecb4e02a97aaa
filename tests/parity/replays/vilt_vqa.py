"""ViLT's VQAv2 logits, targets, loss and score (docs/official/vilt.md §7)."""

from __future__ import annotations

import torch
import torch.nn.functional as F

from tests.parity.replays import PLAIN, TRAINING_PATH, Fixture, Outputs, replay
from tests.parity.replays.filling import built_outputs
from tests.parity.replays.vilt_models import as_answers, batch_of, filled_model, forced_patches, kept_patches


@replay("vilt", "vqa", modes=(PLAIN, TRAINING_PATH))
@torch.no_grad()
def vqa(fixture: Fixture, mode: str) -> Outputs:
    model, names = filled_model(fixture), ("vqa_labels", "vqa_scores")
    yield from built_outputs(fixture, model)
    batch = batch_of(fixture, mode, "image", *names)
    batch = batch.also(**{name: fixture.inputs[name] for name in names if name in fixture.inputs})
    with forced_patches(kept_patches(fixture, batch)):
        if mode == TRAINING_PATH:
            yield from model(batch.whole()).items()
            return
        logits = model.vqa_classifier(model.infer(batch)["cls_feats"])
    yield "vqa_logits", logits
    targets = as_answers(batch["vqa_labels"], batch["vqa_scores"], logits.shape[1])
    yield "vqa_targets_nonzero", targets.nonzero()
    yield "vqa_targets_values", targets[targets != 0]
    yield "vqa_loss", F.binary_cross_entropy_with_logits(logits, targets) * logits.shape[1]
    yield "vqa_score", targets.gather(1, logits.argmax(dim=1, keepdim=True)).mean()
