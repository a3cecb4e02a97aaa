"""ALBEF's pre-training step: states, Eq. 8, features, logits, losses, queues (docs/official/albef.md §4, §5, §10)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from albef.models.contrastive_model import Momentum
from albef.models.model_pretrain import ALBEF
from epic_common.saliency import saliency_scores
from tests.parity.replays import PLAIN, TRAINING_PATH, Fixture, Given, Outputs, fusion_passes, once, piece, replay
from tests.parity.replays.albef_models import (
    alpha_of,
    model_of,
    negatives_of,
    pretraining_batch,
    steps_of,
    weights,
)
from tests.parity.replays.fusion_passes import Shown
from vlp.losses.distillation import distilled_cross_entropy
from vlp.nn.cross_attention import Seen
from vlp.nn.packed_text import TextPlan
from vlp.nn.padding import PaddedLayout

Lazy = Callable[[], Any]


@replay("albef", "pretrain", modes=(PLAIN, TRAINING_PATH))
@torch.no_grad()
def pretrain(fixture: Fixture, mode: str) -> Outputs:
    model, batch = model_of(ALBEF, fixture, mode), pretraining_batch(fixture)
    for step in steps_of(fixture):
        for name, value in (_plain if mode == PLAIN else _trained)(fixture, model, batch, step):
            yield f"step{step}.{name}", value


def _state(model: ALBEF) -> Outputs:
    yield "queue_ptr", model.queue_ptr
    yield "image_queue_head", model.image_queue
    yield "text_queue_head", model.text_queue
    yield "temp", model.temp
    yield "m_vision_proj", model.state_dict()["vision_proj_m.weight"]
    yield "m_word_emb", model.bert_m.embeddings.word_embeddings.weight


def _losses(outputs: dict[str, Any]) -> Outputs:
    for name in ("mlm", "ita", "itm"):
        yield f"loss_{name}", outputs[f"{name}_loss"]


# The training path ---------------------------------------------------------------------------------------


def _trained(fixture: Fixture, model: ALBEF, batch: Given, step: int) -> Outputs:
    layout = once(lambda: model.text_layout(TextPlan.of(batch["text_masks"])))
    yield from _stepped(fixture, model, batch, layout, step)
    image = once(lambda: model.visual_encoder(batch["image"]))
    text = once(lambda: model.bert.text(batch["text_ids"], layout()))
    yield "image_feat", lambda: model.image_feat(image())
    yield "text_feat", lambda: model.text_feat(text(), layout())
    yield "saliency_alpha", once(lambda: _alpha(model, batch, image(), text(), layout()))


def _alpha(model: ALBEF, batch: Given, image: Tensor, text: Tensor, layout: PaddedLayout) -> Tensor:
    q, k = model.bert.query_key(text, layout, image, Seen())
    return fusion_passes.alpha(saliency_scores(q, k), batch["text_masks"].bool())


@piece
def _stepped(fixture: Fixture, model: ALBEF, batch: Given, layout: Lazy, step: int) -> Outputs:
    outputs = model(batch.whole(), alpha_of(fixture, step), negatives_of(fixture, step))
    # The momentum models have moved on by now, and say again what they said in the step.
    image_m, text_m = model.visual_encoder_m(batch["image"]), model.bert_m.text(batch["text_ids"], layout())
    yield from _losses(outputs)
    yield "itm_logits", outputs["itm_logits"]
    yield "image_feat_m", F.normalize(model.vision_proj_m(image_m[:, 0]), dim=-1)
    yield "text_feat_m", F.normalize(model.text_proj_m(layout().first(text_m)[:, 0]), dim=-1)
    yield from _state(model)


# The plain computation: every official pass by itself, padding and all positions included ----------------


def _plain(fixture: Fixture, model: ALBEF, batch: Given, step: int) -> Outputs:
    model.temp.clamp_(0.001, 0.5)
    image, layout = once(lambda: model.visual_encoder(batch["image"])), once(lambda: _padded(batch))
    text = once(lambda: model.bert.text(batch["text_ids"], layout()))
    features = once(lambda: model.image_feat(image())), once(lambda: model.text_feat(text(), layout()))
    yield "image_embeds", image
    yield "image_embeds_mean", lambda: image().mean(dim=1)
    yield "text_embeds", text
    yield from zip(("image_feat", "text_feat"), features, strict=True)
    eq8 = once(lambda: fusion_passes.saliency(model.bert, Shown(image()), text(), batch["text_masks"].bool()))
    for ours, name in {"q": "pen_q", "k": "pen_k", "scores": "saliency_score", "alpha": "saliency_alpha"}.items():
        yield name, partial(lambda field: getattr(eq8(), field), ours)
    yield from _matched(fixture, model, image, text, batch, step)
    yield from _contrasted(fixture, model, batch, image, features, step)


def _padded(batch: Given) -> PaddedLayout:
    return PaddedLayout(batch["text_masks"].bool())


@piece
def _matched(fixture: Fixture, model: ALBEF, image: Lazy, text: Lazy, batch: Given, step: int) -> Outputs:
    words, negatives = batch["text_masks"].bool(), negatives_of(fixture, step)
    yield from fusion_passes.matching(model.bert, model.itm_head, Shown(image()), text(), words, negatives)


@piece
def _contrasted(
    fixture: Fixture, model: ALBEF, batch: Given, image: Lazy, features: Sequence[Lazy], step: int
) -> Outputs:
    """With the momentum models, which move."""
    alpha, layout = alpha_of(fixture, step), _padded(batch)
    momentum = model.momentum_states(batch["image"], [batch["text_ids"]], layout)
    yield "image_embeds_m", momentum.image
    yield "text_embeds_m", momentum.texts[0]
    yield "image_feat_m", momentum.image_feat
    yield "text_feat_m", momentum.text_feat
    size = len(batch["image"])
    own = torch.eye(size, size + model.image_queue.shape[1])
    outputs, similar = model.contrast(features[0](), features[1](), momentum, own, alpha)
    model.enqueue_features(momentum)
    yield "loss_ita", outputs["ita_loss"]
    for name, similarities in (("i2t", similar.image_to_text), ("t2i", similar.text_to_image)):
        yield f"weights_{name}", weights(similarities, own[:, :size].bool())
    yield from _masked(model, image, momentum, batch, alpha)
    yield from _state(model)


@piece
def _masked(model: ALBEF, image: Lazy, momentum: Momentum, batch: Given, alpha: float) -> Outputs:
    layout = _padded(batch)
    states = model.bert(batch["text_ids_mlm"], layout, image(), Seen())
    logits = model.text_encoder.logits(states)
    logits_m = model.text_encoder_m.logits(model.bert_m(batch["text_ids_mlm"], layout, momentum.image, Seen()))
    yield "fusion_masked", states
    yield "mlm_logits", logits
    yield "mlm_logits_m", logits_m
    labels = batch["text_labels_mlm"]
    chosen = labels != -100
    yield "loss_mlm", distilled_cross_entropy(logits[chosen], labels[chosen], logits_m[chosen], alpha)
