"""X-VLM's general pre-training step: states, Eq. 8, features, sampling weights, logits, losses.

Source: docs/official/xvlm.md §4, §5, §10.
"""

from __future__ import annotations

from typing import Any

import torch
from torch.nn import functional as F

from tests.parity.replays import PLAIN, TRAINING_PATH, Fixture, Outputs, fusion_passes, replay
from tests.parity.replays.fusion_passes import Shown
from tests.parity.replays.xvlm_models import (
    Batch,
    in_official_order,
    model_of,
    negatives_of,
    pretraining_batch,
    tensor,
)
from tests.parity.replays.xvlm_states import eq8, features, fusion_states, teacher_eq8, vision
from vlp.nn.cross_attention import Seen
from vlp.nn.packed_text import TextPlan
from vlp.nn.padding import PaddedLayout
from xvlm.models.model_pretrain import XVLM, shown_by


@replay("xvlm", "pretrain", modes=(PLAIN, TRAINING_PATH))
@torch.no_grad()
def pretrain(fixture: Fixture, mode: str) -> Outputs:
    model, batch = model_of(fixture, mode), pretraining_batch(fixture)
    if mode == TRAINING_PATH:
        yield from trained(fixture, model, batch)
    else:
        image = yield from vision(model, batch)
        yield from plain(fixture, model, batch, Shown(image))
        yield from fusion_states(model, batch, image)


def trained(fixture: Fixture, model: XVLM, batch: Batch) -> Outputs:
    """The training step with all savings: its losses and logits, and Eq. 8 as EPIC asks a teacher."""
    outputs = model(batch, negatives_of(fixture))
    for name in ("itc", "itm", "mlm", "bbox", "giou"):
        if f"{name}_loss" in outputs:
            yield f"loss_{name}", outputs[f"{name}_loss"]
    yield "itm_logits", outputs["itm_logits"]
    yield "mlm_logits_masked", in_official_order(fixture, outputs["mlm_logits"])
    shown, layout = shown_by(model.vision_encoder, batch), model.text_layout(TextPlan.of(batch["text_masks"]))
    text = model.bert.text(batch["text_ids"], layout)
    yield from features(model, shown.image, text, layout)
    yield from teacher_eq8(model, Shown(shown.image, shown.mask), text, layout, batch["text_masks"].bool())


def plain(fixture: Fixture, model: XVLM, batch: Batch, shown: Shown) -> Any:
    """The official passes one by one, padding and all positions included; returns the text states (B, n, d)."""
    words = batch["text_masks"].bool()
    layout, negatives = PaddedLayout(words), negatives_of(fixture)
    text = model.bert.text(batch["text_ids"], layout)
    similar = yield from features(model, shown.image, text, layout)
    labels = torch.arange(len(words))
    yield "loss_itc", (F.cross_entropy(similar, labels) + F.cross_entropy(similar.T, labels)) / 2
    yield from fusion_passes.matching(model.bert, model.itm_head, shown, text, words, negatives)
    yield from eq8(model, shown, text, words)
    states = model.bert(batch["text_ids_mlm"], layout, shown.image, Seen(mask=shown.mask))
    places, labels = tensor(fixture.choices["masked_pos"]), tensor(fixture.choices["masked_ids"])
    logits = model.text_encoder.logits(states.gather(1, places[..., None].expand(-1, -1, states.shape[-1])))
    yield "mlm_logits", logits
    yield "mlm_logits_masked", logits[labels != -100]
    yield "loss_mlm", F.cross_entropy(logits.flatten(0, 1), labels.flatten(), ignore_index=-100)
    return text
