"""ViLT's masked patch prediction: colour bins, logits, loss (docs/official/vilt.md §5)."""

from __future__ import annotations

from unittest.mock import patch

import torch
import torch.nn.functional as F

from tests.parity.replays import PLAIN, TRAINING_PATH, Fixture, Outputs, replay
from tests.parity.replays.filling import built_outputs
from tests.parity.replays.vilt_models import batch_of, filled_model, forced_patches, kept_patches
from vilt.modules import masked_patches


@replay("vilt", "mpp", modes=(PLAIN, TRAINING_PATH))
@torch.no_grad()
def mpp(fixture: Fixture, mode: str) -> Outputs:
    model = filled_model(fixture)
    yield from built_outputs(fixture, model)
    batch = batch_of(fixture, mode, "image")
    draws = [torch.from_numpy(fixture.choices[name]).bool() for name in ("mask_draw", "replace_draw")]
    forced_draws = patch.object(masked_patches, "draw_patches", lambda size, grid, device: draws)
    with forced_patches(kept_patches(fixture, batch)), forced_draws:
        if mode == TRAINING_PATH:
            yield "mpp_loss", model(batch.whole())["mpp_loss"]
            return
        result = model.infer(batch, mask_image=True)
    logits, labels = model.mpp_score(result["image_feats"]), result["image_labels"]
    yield "mpp_logits", logits
    yield "mpp_labels", labels
    yield "mpp_loss", F.cross_entropy(logits.flatten(0, 2), labels.flatten(), ignore_index=-100)
