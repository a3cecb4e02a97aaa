"""What the replays of SNLI-VE and NLVR2 share: class logits, then one training call (docs/official/albef.md §7)."""

from __future__ import annotations

import torch
from torch.nn import functional as F

from albef.models.classifier_model import ClassifierModel
from tests.parity.replays import PLAIN, Fixture, Given, Outputs, piece
from vlp.nn.cross_attention import Seen
from vlp.nn.padding import PaddedLayout


@torch.no_grad()
def classified(fixture: Fixture, model: ClassifierModel, batch: Given, mode: str) -> Outputs:
    """Logits and loss, and in the plain mode the states before them."""
    yield "pos", model.visual_encoder.state_dict()["pos_embed"]
    yield from _logits(model, batch, mode)
    outputs = model(batch.whole(), float(fixture.inputs["alpha"]))  # one momentum update
    yield "loss", outputs[model.loss_name]
    if outputs["momentum_logits"] is not None:
        yield "logits_m", outputs["momentum_logits"]


@piece
def _logits(model: ClassifierModel, batch: Given, mode: str) -> Outputs:
    if mode == PLAIN:
        image = model.visual_encoder(batch["image"])
        yield "image_embeds", image
        layout = PaddedLayout(batch["text_masks"].bool())
        fusion = model.part("text_encoder", momentum=False)(batch["text_ids"], layout, model.seen_images(image), Seen())
        yield "fusion", fusion
        logits = model.part("cls_head", momentum=False)(fusion[:, 0])
    else:
        logits = model.class_logits(batch)
    yield "logits", logits
    yield "loss_alpha0", lambda: F.cross_entropy(logits, batch["labels"])
