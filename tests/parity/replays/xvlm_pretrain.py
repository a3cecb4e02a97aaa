"""X-VLM's general pre-training step: states, Eq. 8, features, sampling weights, logits, losses.

Source: docs/official/xvlm.md §4, §5, §10.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from epic_common.saliency import saliency_scores
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
from vlp.nn.cross_attention import Seen
from vlp.nn.packed_text import TextPlan
from vlp.nn.padding import PaddedLayout
from xvlm.models.model_pretrain import XVLM, shown_by
from xvlm.models.xvlm import negative_weights


@replay("xvlm", "pretrain", modes=(PLAIN, TRAINING_PATH))
@torch.no_grad()
def pretrain(fixture: Fixture, mode: str) -> Outputs:
    model, batch = model_of(fixture, mode), pretraining_batch(fixture)
    if mode == TRAINING_PATH:
        yield from trained(fixture, model, batch)
    else:
        image = yield from _vision(model, batch)
        yield from plain(fixture, model, batch, Shown(image))
        yield from _fusion_states(model, batch, image)


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
    yield from _features(model, shown.image, text, layout)
    scores = saliency_scores(*model.bert.query_key(text, layout, shown.image, Seen(mask=shown.mask)))
    yield "sal_alpha", fusion_passes.alpha(scores, batch["text_masks"].bool())


def plain(fixture: Fixture, model: XVLM, batch: Batch, shown: Shown) -> Any:
    """The official passes one by one, padding and all positions included; returns the text states (B, n, d)."""
    words = batch["text_masks"].bool()
    layout, negatives = PaddedLayout(words), negatives_of(fixture)
    text = model.bert.text(batch["text_ids"], layout)
    similar = yield from _features(model, shown.image, text, layout)
    labels = torch.arange(len(words))
    yield "loss_itc", (F.cross_entropy(similar, labels) + F.cross_entropy(similar.T, labels)) / 2
    yield from fusion_passes.matching(model.bert, model.itm_head, shown, text, words, negatives)
    eq8 = fusion_passes.saliency(model.bert, shown, text, words)
    yield "sal_raw", eq8.scores
    yield "sal_alpha", eq8.alpha
    yield "pen_q_head", eq8.q
    yield "pen_k_img0", eq8.k
    states = model.bert(batch["text_ids_mlm"], layout, shown.image, Seen(mask=shown.mask))
    places, labels = tensor(fixture.choices["masked_pos"]), tensor(fixture.choices["masked_ids"])
    logits = model.text_encoder.logits(states.gather(1, places[..., None].expand(-1, -1, states.shape[-1])))
    yield "mlm_logits", logits
    yield "mlm_logits_masked", logits[labels != -100]
    yield "loss_mlm", F.cross_entropy(logits.flatten(0, 1), labels.flatten(), ignore_index=-100)
    return text


def _features(model: XVLM, image: Tensor, text: Tensor, layout: PaddedLayout) -> Any:
    """Features and the weights of negatives; returns the similarities (B, B) of images with texts."""
    image_feat, text_feat = model.image_feat(image), model.text_feat(text, layout)
    similar, own = image_feat @ text_feat.T / model.temp, torch.eye(len(image), dtype=torch.bool)
    yield "text_embeds", text
    yield "image_feat", image_feat
    yield "text_feat", text_feat
    yield "weights_i2t", negative_weights(similar, own)
    yield "weights_t2i", negative_weights(similar.T, own)
    return similar


def _vision(model: XVLM, batch: Batch) -> Any:
    """The states of Swin's stages; returns the encoded images."""
    encoder = model.vision_encoder
    states = encoder.patch_embed(batch["image"])
    yield "swin_patch_embed", states.flatten(1, 2)
    for i, stage in enumerate(encoder.layers):
        states = stage(states)
        yield f"swin_stage{i}", states.flatten(1, 2)
    image = encoder(batch["image"])
    for name in ("head", "tail"):
        yield f"image_embeds_{name}", image
    yield "image_pooled", image
    return image


def _fusion_states(model: XVLM, batch: Batch, image: Tensor) -> Outputs:
    """The states behind the embeddings and every layer, on the clean text with its own image."""
    layout = PaddedLayout(batch["text_masks"].bool())
    states = model.bert.embeddings(batch["text_ids"], layout)
    yield "hidden_00", states
    for i, layer in enumerate(model.bert.layers):
        seen = (image, Seen()) if i >= model.bert.fusion_layer else ()
        states = layer(states, layout, *seen)
        yield f"hidden_{i + 1:02d}", states
    yield "cross_last", states
