"""ViLT's NLVR2 logits and loss: one statement, two images (docs/official/vilt.md §7)."""

from __future__ import annotations

from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor

from tests.parity.replays import PLAIN, TRAINING_PATH, Fixture, Given, Outputs, once, replay
from tests.parity.replays.filling import built_outputs
from tests.parity.replays.vilt_models import batch_of, filled_model, forced_patches, kept_patches
from vilt.modules.vilt_module import ViLTransformerSS


@replay("vilt", "nlvr2", modes=(PLAIN, TRAINING_PATH))
@torch.no_grad()
def nlvr2(fixture: Fixture, mode: str) -> Outputs:
    model = filled_model(fixture)
    yield from built_outputs(fixture, model)
    batch = batch_of(fixture, mode, "image_0", "image_1")
    labels = once(lambda: torch.from_numpy(fixture.inputs["answers"]).long())
    if mode == TRAINING_PATH:
        kept = [kept_patches(fixture, batch, f"image_{i}", f"patch_index_{i}") for i in range(2)]
        with forced_patches(torch.cat(kept)):
            yield from model(batch.whole().also(answers=labels().bool().tolist())).items()
        return
    pairs = [once(partial(_features, fixture, model, batch, i)) for i in range(2)]
    yield from zip(("cls_feats_1", "cls_feats_2"), pairs, strict=True)
    logits = model.nlvr2_classifier(torch.cat([pair() for pair in pairs], dim=1))
    yield "nlvr2_logits", logits
    yield "nlvr2_loss", lambda: F.cross_entropy(logits, labels())


def _features(fixture: Fixture, model: ViLTransformerSS, batch: Given, i: int) -> Tensor:
    with forced_patches(kept_patches(fixture, batch, f"image_{i}", f"patch_index_{i}")):
        features: Tensor = model.infer(batch, image_token_type_idx=i + 1)["cls_feats"]
    return features
