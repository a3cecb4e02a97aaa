"""ViLT's NLVR2 logits and loss: one statement, two images (docs/official/vilt.md §7)."""

from __future__ import annotations

import torch
import torch.nn.functional as F

from tests.parity.replays import PLAIN, TRAINING_PATH, Fixture, Outputs, replay
from tests.parity.replays.filling import built_outputs
from tests.parity.replays.vilt_models import batch_of, filled_model, forced_patches, kept_patches


@replay("vilt", "nlvr2", modes=(PLAIN, TRAINING_PATH))
@torch.no_grad()
def nlvr2(fixture: Fixture, mode: str) -> Outputs:
    model, batch = filled_model(fixture), batch_of(fixture, mode)
    labels = torch.from_numpy(fixture.inputs["answers"]).long()
    kept = [kept_patches(fixture, batch, f"image_{i}", f"patch_index_{i}") for i in range(2)]
    yield from built_outputs(fixture, model)
    if mode == TRAINING_PATH:
        with forced_patches(torch.cat(kept)):
            yield from model({**batch, "answers": labels.bool().tolist()}).items()
        return
    pairs = []
    for i in range(2):
        with forced_patches(kept[i]):
            pairs.append(model.infer(batch, image_token_type_idx=i + 1)["cls_feats"])
        yield f"cls_feats_{i + 1}", pairs[i]
    logits = model.nlvr2_classifier(torch.cat(pairs, dim=1))
    yield "nlvr2_logits", logits
    yield "nlvr2_loss", F.cross_entropy(logits, labels)
