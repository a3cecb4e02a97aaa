"""The states of X-VLM's contrastive models that several replays compare (docs/official/xvlm.md §4, §5, §10)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from epic_common.saliency import saliency_scores
from tests.parity.replays import Fixture, Given, Outputs, fusion_passes, once, piece
from tests.parity.replays.fusion_passes import Shown
from tests.parity.replays.xvlm_models import negatives_of
from vlp.losses.matching import same_image
from vlp.nn.cross_attention import Seen
from vlp.nn.padding import PaddedLayout
from xvlm.models.xvlm import negative_weights

Lazy = Callable[[], Any]  # a value that is made where it is asked for


def similarities(model: Any, image: Tensor, text: Tensor, layout: PaddedLayout) -> Tensor:
    """Of image states (B, N, c) and text states (B, n, d): (B, B)."""
    similar: Tensor = model.image_feat(image) @ model.text_feat(text, layout).T / model.temp
    return similar


def features(model: Any, image: Lazy, text: Lazy, layout: Lazy, image_id: Lazy | None = None) -> Outputs:
    """Features and the weights of negatives, which pairs of one image (B,) are not."""
    similar = once(lambda: similarities(model, image(), text(), layout()))
    matches = once(lambda: same_image(torch.arange(len(image())) if image_id is None else image_id()))
    yield "text_embeds", text
    yield "image_feat", once(lambda: model.image_feat(image()))
    yield "text_feat", once(lambda: model.text_feat(text(), layout()))
    yield "weights_i2t", lambda: negative_weights(similar(), matches())
    yield "weights_t2i", lambda: negative_weights(similar().T, matches())


@piece
def vision(model: Any, batch: Given, image: Lazy) -> Outputs:
    """The states of Swin's stages, and the encoded images."""
    encoder = model.vision_encoder
    states = encoder.patch_embed(batch["image"])
    yield "swin_patch_embed", states.flatten(1, 2)
    for i, stage in enumerate(encoder.layers):
        states = stage(states)
        yield f"swin_stage{i}", states.flatten(1, 2)
    for name in ("image_embeds_head", "image_embeds_tail", "image_pooled"):
        yield name, image


@piece
def fusion_states(model: Any, batch: Given, image: Lazy) -> Outputs:
    """The states behind the embeddings and every layer, on the clean text with its own image."""
    layout = PaddedLayout(batch["text_masks"].bool())
    states = model.bert.embeddings(batch["text_ids"], layout)
    yield "hidden_00", states
    for i, layer in enumerate(model.bert.layers):
        seen = (image(), Seen()) if i >= model.bert.fusion_layer else ()
        states = layer(states, layout, *seen)
        yield f"hidden_{i + 1:02d}", states
    yield "cross_last", states


@piece
def matched(fixture: Fixture, model: Any, shown: Callable[[], Shown], text: Lazy, batch: Given) -> Outputs:
    """Image-text matching with the negatives that the fixture draws."""
    words, negatives = batch["text_masks"].bool(), negatives_of(fixture)
    yield from fusion_passes.matching(model.bert, model.itm_head, shown(), text(), words, negatives)


@piece
def eq8(model: Any, shown: Callable[[], Shown], text: Lazy, batch: Given) -> Outputs:
    """What EPIC reads in the penultimate layer; text (B, n, d) below the fusion layers."""
    found = fusion_passes.saliency(model.bert, shown(), text(), batch["text_masks"].bool())
    yield "sal_raw", found.scores
    yield "sal_alpha", found.alpha
    yield "pen_q_head", found.q
    yield "pen_k_img0", found.k


@piece
def teacher_eq8(model: Any, shown: Callable[[], Shown], text: Lazy, layout: Lazy, batch: Given) -> Outputs:
    """The same as EPIC asks a teacher; text stored as the layout says."""
    seen = Seen(mask=shown().mask)
    scores = saliency_scores(*model.bert.query_key(text(), layout(), shown().image, seen))
    yield "sal_alpha", fusion_passes.alpha(scores, batch["text_masks"].bool())
