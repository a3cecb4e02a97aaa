"""ALBEF's text assignment for NLVR2 (docs/official/albef.md §5)."""

from __future__ import annotations

import torch
from torch import Tensor

from albef.models.model_pretrain_nlvr import ALBEF
from tests.parity.replays import PLAIN, TRAINING_PATH, Fixture, Outputs, replay
from tests.parity.replays.albef_models import model_of, task_batch, tensor
from vlp.losses.cross_entropy import mean_cross_entropy
from vlp.losses.text_assignment import Assignment
from vlp.nn.cross_attention import Seen
from vlp.nn.padding import PaddedLayout

NAMES = ("first_image", "second_image", "labels")  # of an assignment's parts


@replay("albef", "nlvr_pretrain", modes=(PLAIN, TRAINING_PATH))
@torch.no_grad()
def nlvr_pretrain(fixture: Fixture, mode: str) -> Outputs:
    model, batch = model_of(ALBEF, fixture, mode), task_batch(fixture)

    def drawn(name: str) -> Tensor:
        return tensor(fixture.choices[name])

    if mode == TRAINING_PATH:
        outputs = model(batch.whole(), 0.0, Assignment(*map(drawn, NAMES)))
        yield "logits", outputs["logits"]
        yield "loss", outputs["ta_loss"]
        return
    image = model.visual_encoder(batch["image"])
    yield "image_embeds", image
    yield "weights", model.similarities(image).softmax(dim=1) * (1 - torch.eye(len(image)))
    layout = PaddedLayout(batch["text_masks"].bool())
    shown = [image[drawn(name)] for name in NAMES[:2]]
    fusion = model.text_encoder(batch["text_ids"], layout, shown, Seen())
    logits = model.ta_head(fusion[:, 0])
    yield "fusion", fusion
    yield "logits", logits
    yield "loss", lambda: mean_cross_entropy(logits, drawn("labels"))
