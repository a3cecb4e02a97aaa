"""The states of X-VLM's contrastive models that several replays compare (docs/official/xvlm.md §4, §5, §10)."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from epic_common.saliency import saliency_scores
from tests.parity.replays import Outputs, fusion_passes
from tests.parity.replays.fusion_passes import Shown
from tests.parity.replays.xvlm_models import Batch
from vlp.losses.matching import same_image
from vlp.nn.cross_attention import Seen
from vlp.nn.padding import PaddedLayout
from xvlm.models.xvlm import negative_weights


def features(model: Any, image: Tensor, text: Tensor, layout: PaddedLayout, image_id: Tensor | None = None) -> Any:
    """Features and the weights of negatives, which pairs of one image (B,) are not; returns the similarities (B, B)."""
    matches = same_image(torch.arange(len(image)) if image_id is None else image_id)
    image_feat, text_feat = model.image_feat(image), model.text_feat(text, layout)
    similar = image_feat @ text_feat.T / model.temp
    yield "text_embeds", text
    yield "image_feat", image_feat
    yield "text_feat", text_feat
    yield "weights_i2t", negative_weights(similar, matches)
    yield "weights_t2i", negative_weights(similar.T, matches)
    return similar


def vision(model: Any, batch: Batch) -> Any:
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


def fusion_states(model: Any, batch: Batch, image: Tensor) -> Outputs:
    """The states behind the embeddings and every layer, on the clean text with its own image."""
    layout = PaddedLayout(batch["text_masks"].bool())
    states = model.bert.embeddings(batch["text_ids"], layout)
    yield "hidden_00", states
    for i, layer in enumerate(model.bert.layers):
        seen = (image, Seen()) if i >= model.bert.fusion_layer else ()
        states = layer(states, layout, *seen)
        yield f"hidden_{i + 1:02d}", states
    yield "cross_last", states


def eq8(model: Any, shown: Shown, text: Tensor, text_mask: Tensor) -> Outputs:
    """What EPIC reads in the penultimate layer; text (B, n, d) below the fusion layers, its mask (B, n) bool."""
    found = fusion_passes.saliency(model.bert, shown, text, text_mask)
    yield "sal_raw", found.scores
    yield "sal_alpha", found.alpha
    yield "pen_q_head", found.q
    yield "pen_k_img0", found.k


def teacher_eq8(model: Any, shown: Shown, text: Tensor, layout: PaddedLayout, text_mask: Tensor) -> Outputs:
    """The same as EPIC asks a teacher; text stored as the layout says."""
    scores = saliency_scores(*model.bert.query_key(text, layout, shown.image, Seen(mask=shown.mask)))
    yield "sal_alpha", fusion_passes.alpha(scores, text_mask)
