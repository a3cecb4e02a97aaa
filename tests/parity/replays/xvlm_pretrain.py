"""X-VLM's general pre-training step: states, Eq. 8, features, sampling weights, logits, losses.

Source: docs/official/xvlm.md §4, §5, §10.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional as F

from tests.parity.replays import PLAIN, TRAINING_PATH, Fixture, Given, Outputs, once, piece, replay
from tests.parity.replays.fusion_passes import Shown
from tests.parity.replays.xvlm_models import in_official_order, model_of, negatives_of, pretraining_batch
from tests.parity.replays.xvlm_states import (
    eq8,
    features,
    fusion_states,
    matched,
    similarities,
    teacher_eq8,
    vision,
)
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
        image = once(lambda: model.vision_encoder(batch["image"]))
        yield from vision(model, batch, image)
        yield from plain(fixture, model, batch, once(lambda: Shown(image())))
        yield from fusion_states(model, batch, image)


def trained(fixture: Fixture, model: XVLM, batch: Given) -> Outputs:
    """The training step with all savings: its losses and logits, and Eq. 8 as EPIC asks a teacher."""
    yield from _stepped(fixture, model, batch)
    layout = once(lambda: model.text_layout(TextPlan.of(batch["text_masks"])))
    text = once(lambda: model.bert.text(batch["text_ids"], layout()))
    shown = once(lambda: shown_by(model.vision_encoder, batch))
    yield from features(model, once(lambda: shown().image), text, layout)
    yield from teacher_eq8(model, once(lambda: Shown(shown().image, shown().mask)), text, layout, batch)


@piece
def _stepped(fixture: Fixture, model: XVLM, batch: Given) -> Outputs:
    outputs = model(batch.whole(), negatives_of(fixture))
    for name in ("itc", "itm", "mlm", "bbox", "giou"):
        if f"{name}_loss" in outputs:
            yield f"loss_{name}", outputs[f"{name}_loss"]
    yield "itm_logits", outputs["itm_logits"]
    yield "mlm_logits_masked", in_official_order(fixture, outputs["mlm_logits"])


def plain(fixture: Fixture, model: XVLM, batch: Given, shown: Callable[[], Shown]) -> Outputs:
    """The official passes one by one, padding and all positions included."""
    layout = once(lambda: PaddedLayout(batch["text_masks"].bool()))
    text = once(lambda: model.bert.text(batch["text_ids"], layout()))
    similar = once(lambda: similarities(model, shown().image, text(), layout()))
    yield from features(model, once(lambda: shown().image), text, layout)
    yield "loss_itc", lambda: _contrast(similar(), torch.arange(len(similar())))
    yield from matched(fixture, model, shown, text, batch)
    yield from eq8(model, shown, text, batch)
    yield from _masked(fixture, model, shown, layout, batch)


def _contrast(similar: Tensor, labels: Tensor) -> Tensor:
    return (F.cross_entropy(similar, labels) + F.cross_entropy(similar.T, labels)) / 2


@piece
def _masked(
    fixture: Fixture, model: XVLM, shown: Callable[[], Shown], layout: Callable[[], PaddedLayout], batch: Given
) -> Outputs:
    states = model.bert(batch["text_ids_mlm"], layout(), shown().image, Seen(mask=shown().mask))
    places = batch["places"]
    logits = model.text_encoder.logits(states.gather(1, places[..., None].expand(-1, -1, states.shape[-1])))
    yield "mlm_logits", logits
    labels = batch["labels"]
    yield "mlm_logits_masked", logits[labels != -100]
    yield "loss_mlm", F.cross_entropy(logits.flatten(0, 1), labels.flatten(), ignore_index=-100)
