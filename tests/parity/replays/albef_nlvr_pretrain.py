"""ALBEF's text assignment for NLVR2 (docs/official/albef.md §5)."""

from __future__ import annotations

import torch

from albef.models.model_pretrain_nlvr import ALBEF
from tests.parity.replays import PLAIN, TRAINING_PATH, Fixture, Outputs, replay
from tests.parity.replays.albef_models import model_of, task_batch, tensor
from vlp.losses.cross_entropy import mean_cross_entropy
from vlp.losses.text_assignment import Assignment
from vlp.nn.cross_attention import Seen
from vlp.nn.padding import PaddedLayout


@replay("albef", "nlvr_pretrain", modes=(PLAIN, TRAINING_PATH))
@torch.no_grad()
def nlvr_pretrain(fixture: Fixture, mode: str) -> Outputs:
    model, batch = model_of(ALBEF, fixture, mode), task_batch(fixture)
    shown = Assignment(*(tensor(fixture.choices[name]) for name in ("first_image", "second_image", "labels")))
    if mode == TRAINING_PATH:
        outputs = model(batch, 0.0, shown)
        yield "logits", outputs["logits"]
        yield "loss", outputs["ta_loss"]
        return
    image = model.visual_encoder(batch["image"])
    weights = model.similarities(image).softmax(dim=1)
    layout = PaddedLayout(batch["text_masks"].bool())
    fusion = model.text_encoder(batch["text_ids"], layout, [image[shown.first], image[shown.second]], Seen())
    logits = model.ta_head(fusion[:, 0])
    yield "weights", weights * (1 - torch.eye(len(image)))
    yield "image_embeds", image
    yield "fusion", fusion
    yield "logits", logits
    yield "loss", mean_cross_entropy(logits, shown.labels)
