"""X-VLM's NLVR2: loaded parameters, logits and loss (docs/official/xvlm.md §7.3)."""

from __future__ import annotations

import torch

from tests.parity.replays import PLAIN, TRAINING_PATH, Fixture, Outputs, replay
from tests.parity.replays.xvlm_models import loaded_sums, model_of, task_batch
from vlp.nn.cross_attention import Seen
from vlp.nn.padding import PaddedLayout


@replay("xvlm", "nlvr", modes=(PLAIN, TRAINING_PATH))
@torch.no_grad()
def nlvr(fixture: Fixture, mode: str) -> Outputs:
    model, batch = model_of(fixture, mode), task_batch(fixture, labels="targets")
    if mode == TRAINING_PATH:
        outputs = model(batch.whole())
        yield "logits", outputs["logits"]
        yield "loss", outputs["nlvr_loss"]
        return
    yield from loaded_sums(fixture, model)
    images = list(model.vision_encoder(batch["image"]).chunk(2))
    state = model.text_encoder(batch["text_ids"], PaddedLayout(batch["text_masks"].bool()), images, Seen())[:, 0]
    logits = model.cls_head(state)
    yield "cls_state", state
    yield "logits", logits
    yield "loss", lambda: torch.nn.functional.cross_entropy(logits, batch["labels"])
