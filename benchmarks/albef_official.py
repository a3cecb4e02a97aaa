"""ALBEF's pre-training step as the official code computes it, on the layers of this repository."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from unittest.mock import patch

import torch
from torch import Tensor
from torch.nn import functional as F

from benchmarks.baseline import Batch
from vlp.losses.contrastive import contrastive_loss, soft_targets
from vlp.nn.cross_attention import CrossAttentionProjections, Seen
from vlp.nn.feature_queue import enqueue
from vlp.nn.momentum import follow
from vlp.nn.padding import PaddedLayout


def official_loss(m: Any, batch: Batch, alpha: float) -> Tensor:
    """Contrast, matching and masked language modelling: each pass by itself, padded to the longest sentence.

    Keys and values of the images are computed for every row of every pass, vocabulary logits at every position.

    Source: docs/official/albef.md §5.

    Args:
        m: the student, with its momentum models and queues.
        alpha: the weight of the momentum models' soft targets.
    """
    with projected_images():
        layout = full_layout(batch)
        with torch.no_grad():
            m.temp.clamp_(0.001, 0.5)
        images, image_features = encoded_images(m, batch, "")
        texts, text_features = encoded_texts(m, batch, layout, "")
        with torch.no_grad():
            follow(m.pairs, m.config["momentum"])
            images_m, image_features_m = encoded_images(m, batch, "_m")
            _, text_features_m = encoded_texts(m, batch, layout, "_m")
            all_images, all_texts = (
                torch.cat([features.T, queue.clone()], dim=1)
                for features, queue in ((image_features_m, m.image_queue), (text_features_m, m.text_queue))
            )
            own = torch.eye(len(images), all_images.shape[1], device=images.device)
            i2t_targets = soft_targets(image_features_m @ all_texts / m.temp, own, alpha)
            t2i_targets = soft_targets(text_features_m @ all_images / m.temp, own, alpha)
        i2t, t2i = image_features @ all_texts / m.temp, text_features @ all_images / m.temp
        contrast = contrastive_loss(i2t, t2i, i2t_targets, t2i_targets)
        enqueue([m.image_queue, m.text_queue], m.queue_ptr, [image_features_m, text_features_m])
        matching = matching_loss(m, texts, layout, images, i2t, t2i)
        return contrast + matching + masked_language_loss(m, batch, layout, images, images_m, alpha)


@contextmanager
def projected_images() -> Iterator[None]:
    """Keys and values of an image are computed also where another order of the products needs fewer."""
    with patch.object(CrossAttentionProjections, "unprojected_is_cheaper", lambda *_: False):
        yield


def full_layout(batch: Batch) -> PaddedLayout:
    """Sentences with their padding."""
    return PaddedLayout(batch["text_masks"].bool())


def full_states(m: Any, batch: Batch, ids: Tensor) -> Tensor:
    """The last states (B, n, d) of sentences ``ids`` in a pass of their own, with an image encoded for it."""
    with projected_images():
        return m.text_encoder.bert(ids, full_layout(batch), m.visual_encoder(batch["image"]), Seen())


def encoded_images(m: Any, batch: Batch, suffix: str) -> tuple[Tensor, Tensor]:
    """States (B, N, d) and features (B, e) of the student, or with ``_m`` of the momentum model."""
    states = getattr(m, f"visual_encoder{suffix}")(batch["image"])
    return states, F.normalize(getattr(m, f"vision_proj{suffix}")(states[:, 0]), dim=-1)


def encoded_texts(m: Any, batch: Batch, layout: PaddedLayout, suffix: str) -> tuple[Tensor, Tensor]:
    """The same of the unmasked sentences, (B, n, d) and (B, e)."""
    states = getattr(m, f"text_encoder{suffix}").bert.text(batch["text_ids"], layout)
    return states, F.normalize(getattr(m, f"text_proj{suffix}")(states[:, 0]), dim=-1)


def matching_loss(m: Any, texts: Tensor, layout: PaddedLayout, images: Tensor, i2t: Tensor, t2i: Tensor) -> Tensor:
    """B matched pairs in one pass, 2B mismatched ones in another; negatives drawn row after row."""
    size, bert = len(texts), m.text_encoder.bert
    with torch.no_grad():
        weights = [similarities[:, :size].softmax(dim=1).fill_diagonal_(0) for similarities in (t2i, i2t)]
        of_texts, of_images = ([int(torch.multinomial(row, 1)) for row in rows] for rows in weights)
    positive = bert.fuse(texts, layout, images, Seen())
    mask = layout.mask
    assert mask is not None
    twice = PaddedLayout(torch.cat([mask, mask[of_images]]))
    both = torch.cat([texts, texts[of_images]]), torch.cat([images[of_texts], images])
    negative = bert.fuse(both[0], twice, both[1], Seen())
    logits = m.itm_head(torch.cat([positive[:, 0], negative[:, 0]]))
    labels = (torch.arange(3 * size, device=logits.device) < size).long()
    return F.cross_entropy(logits, labels)


def masked_language_loss(
    m: Any, batch: Batch, layout: PaddedLayout, images: Tensor, images_m: Tensor, alpha: float
) -> Tensor:
    """Full passes of the masked sentences through both models."""
    ids, labels = batch["text_ids_mlm"], batch["text_labels_mlm"]
    with torch.no_grad():
        targets = vocabulary_logits(m.text_encoder_m, ids, layout, images_m).softmax(dim=-1)
    logits = vocabulary_logits(m.text_encoder, ids, layout, images)
    distilled = -(targets * logits.log_softmax(dim=-1)).sum(dim=-1)[labels != -100].mean()
    return (1 - alpha) * F.cross_entropy(logits.flatten(0, 1), labels.flatten()) + alpha * distilled


def vocabulary_logits(language_model: Any, ids: Tensor, layout: PaddedLayout, images: Tensor) -> Tensor:
    """ids (B, n) with their images -> (B, n, vocab)."""
    return language_model.logits(language_model.bert(ids, layout, images, Seen()))
