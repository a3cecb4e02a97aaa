"""ALBEF's pre-training step: states, Eq. 8, features, logits, losses, queues (docs/official/albef.md §4, §5, §10)."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from albef.models.contrastive_model import Momentum
from albef.models.model_pretrain import ALBEF
from epic_common.saliency import saliency_scores
from tests.parity.replays import PLAIN, TRAINING_PATH, Fixture, Outputs, fusion_passes, replay
from tests.parity.replays.albef_models import (
    Batch,
    model_of,
    negatives_of,
    pretraining_batch,
    tensor,
    weights,
)
from tests.parity.replays.fusion_passes import Shown
from vlp.losses.distillation import distilled_cross_entropy
from vlp.nn.cross_attention import Seen
from vlp.nn.fusion_passes import Negatives
from vlp.nn.packed_text import TextPlan
from vlp.nn.padding import PaddedLayout


@replay("albef", "pretrain", modes=(PLAIN, TRAINING_PATH))
@torch.no_grad()
def pretrain(fixture: Fixture, mode: str) -> Outputs:
    model, batch = model_of(ALBEF, fixture, mode), pretraining_batch(fixture)
    for step, alpha in enumerate(tensor(fixture.inputs["alphas"]).tolist()):
        negatives = negatives_of(fixture, step)
        made = _plain(model, batch, alpha, negatives) if mode == PLAIN else _trained(model, batch, alpha, negatives)
        for name, value in [*made, *_state(model)]:
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


def _trained(model: ALBEF, batch: Batch, alpha: float, negatives: Negatives) -> list[tuple[str, Tensor]]:
    outputs = model(batch, alpha, negatives)
    # The momentum models have moved on by now, and say again what they said in the step.
    image, layout = model.visual_encoder(batch["image"]), model.text_layout(TextPlan.of(batch["text_masks"]))
    text = model.bert.text(batch["text_ids"], layout)
    q, k = model.bert.query_key(text, layout, image, Seen())
    image_m, text_m = model.visual_encoder_m(batch["image"]), model.bert_m.text(batch["text_ids"], layout)
    return [
        *_losses(outputs),
        ("itm_logits", outputs["itm_logits"]),
        ("image_feat", model.image_feat(image)),
        ("text_feat", model.text_feat(text, layout)),
        ("image_feat_m", F.normalize(model.vision_proj_m(image_m[:, 0]), dim=-1)),
        ("text_feat_m", F.normalize(model.text_proj_m(layout.first(text_m)[:, 0]), dim=-1)),
        ("saliency_alpha", fusion_passes.alpha(saliency_scores(q, k), batch["text_masks"].bool())),
    ]


# The plain computation: every official pass by itself, padding and all positions included ----------------


def _plain(model: ALBEF, batch: Batch, alpha: float, negatives: Negatives) -> list[tuple[str, Tensor]]:
    words = batch["text_masks"].bool()
    layout = PaddedLayout(words)
    model.temp.clamp_(0.001, 0.5)
    image = model.visual_encoder(batch["image"])
    momentum = model.momentum_states(batch["image"], [batch["text_ids"]], layout)
    text = model.bert.text(batch["text_ids"], layout)
    features = model.image_feat(image), model.text_feat(text, layout)
    size = len(image)
    own = torch.eye(size, size + model.image_queue.shape[1])
    outputs, similar = model.contrast(*features, momentum, own, alpha)
    model.enqueue_features(momentum)
    matching = dict(fusion_passes.matching(model.bert, model.itm_head, Shown(image), text, words, negatives))
    masked = dict(_masked(model, image, momentum, batch, alpha))
    eq8 = fusion_passes.saliency(model.bert, Shown(image), text, words)
    return [
        ("image_embeds", image),
        ("image_embeds_m", momentum.image),
        ("image_embeds_mean", image.mean(dim=1)),
        ("text_embeds", text),
        ("text_embeds_m", momentum.texts[0]),
        ("image_feat", features[0]),
        ("text_feat", features[1]),
        ("image_feat_m", momentum.image_feat),
        ("text_feat_m", momentum.text_feat),
        ("loss_ita", outputs["ita_loss"]),
        *(
            (f"weights_{name}", weights(similarities, own[:, :size].bool()))
            for name, similarities in (
                ("i2t", similar.image_to_text),
                ("t2i", similar.text_to_image),
            )
        ),
        *matching.items(),
        *masked.items(),
        ("pen_q", eq8.q),
        ("pen_k", eq8.k),
        ("saliency_score", eq8.scores),
        ("saliency_alpha", eq8.alpha),
    ]


def _masked(model: ALBEF, image: Tensor, momentum: Momentum, batch: Batch, alpha: float) -> Outputs:
    layout, labels = PaddedLayout(batch["text_masks"].bool()), batch["text_labels_mlm"]
    states = model.bert(batch["text_ids_mlm"], layout, image, Seen())
    logits = model.text_encoder.logits(states)
    logits_m = model.text_encoder_m.logits(model.bert_m(batch["text_ids_mlm"], layout, momentum.image, Seen()))
    chosen = labels != -100
    yield "fusion_masked", states
    yield "mlm_logits", logits
    yield "mlm_logits_m", logits_m
    yield "loss_mlm", distilled_cross_entropy(logits[chosen], labels[chosen], logits_m[chosen], alpha)
