"""X-VLM's pre-training steps as the official code computes them, on the layers of this repository."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from benchmarks.albef_official import full_layout, projected_images
from benchmarks.baseline import Batch
from vlp.data.masking import IGNORED
from vlp.losses.boxes import box_losses
from vlp.nn.cross_attention import Seen
from vlp.nn.padding import PaddedLayout
from xvlm.models.model_pretrain import Shown, shown_by

PADDED = {"text_ids": 0, "text_masks": 0, "text_ids_mlm": 0, "text_labels_mlm": IGNORED}


def official_batch(batch: Batch, longest: int) -> Batch:
    """The batch with its sentences padded to ``max_tokens``, as officially, and without our plan of them."""
    padded = {
        name: F.pad(batch[name], (0, longest - batch[name].shape[1]), value=fill) for name, fill in PADDED.items()
    }
    return {**{name: value for name, value in batch.items() if name != "plan"}, **padded}


def official_loss(m: Any, batch: Batch, max_masks: int) -> Tensor:
    """Contrast, matching, masked language modelling and, of regions, boxes: each pass by itself, padding included.

    Keys and values of the images are computed for every row of every pass; vocabulary logits at all mask slots, of
    which a short sentence leaves some empty.

    Source: docs/official/xvlm.md §5.

    Args:
        m: the student.
        batch: of :func:`official_batch`.
        max_masks: mask slots of a sentence.
    """
    with projected_images():
        layout = full_layout(batch)
        with torch.no_grad():
            m.temp.clamp_(0.001, 0.5)
        seen = shown_by(m.vision_encoder, batch)
        texts = m.bert.text(batch["text_ids"], layout)
        images = F.normalize(m.vision_proj(seen.image[:, 0]), dim=-1)
        similar = images @ F.normalize(m.text_proj(texts[:, 0]), dim=-1).T / m.temp
        own = torch.arange(len(similar), device=similar.device)
        contrast = (F.cross_entropy(similar, own) + F.cross_entropy(similar.T, own)) / 2
        matching = matching_loss(m, texts, layout, seen, similar.detach())
        total = contrast + matching + masked_language_loss(m, batch, layout, seen, max_masks)
        return total + box_loss(m, batch, texts, layout, seen) if "idx_to_group_img" in batch else total


def full_states(m: Any, batch: Batch, ids: Tensor) -> Tensor:
    """The last states (B, n, d) of sentences ``ids`` in a pass of their own, with the images encoded for it."""
    with projected_images():
        seen = shown_by(m.vision_encoder, batch)
        return m.text_encoder.bert(ids, full_layout(batch), seen.image, Seen(mask=seen.mask))


def matching_loss(m: Any, texts: Tensor, layout: PaddedLayout, seen: Shown, similar: Tensor) -> Tensor:
    """B matched pairs in one pass, 2B mismatched ones in another; negatives drawn row after row."""
    assert layout.mask is not None
    weights = [(each.softmax(dim=1) + 1e-5).fill_diagonal_(0) for each in (similar.T, similar)]
    of_texts, of_images = ([int(torch.multinomial(row, 1)) for row in rows] for rows in weights)
    positive = m.bert.fuse(texts, layout, seen.image, Seen(mask=seen.mask))
    twice = PaddedLayout(torch.cat([layout.mask, layout.mask[of_images]]))
    masks = None if seen.mask is None else torch.cat([seen.mask[of_texts], seen.mask])
    both = torch.cat([texts, texts[of_images]]), torch.cat([seen.image[of_texts], seen.image])
    negative = m.bert.fuse(both[0], twice, both[1], Seen(mask=masks))
    logits = m.itm_head(torch.cat([positive[:, 0], negative[:, 0]]))
    labels = (torch.arange(len(logits), device=logits.device) < len(texts)).long()
    return F.cross_entropy(logits, labels)


def masked_language_loss(m: Any, batch: Batch, layout: PaddedLayout, seen: Shown, max_masks: int) -> Tensor:
    """A full pass of the masked sentences; logits at ``max_masks`` places of each."""
    labels = batch["text_labels_mlm"]
    # Masked places come first, then others, whose labels are ignored as those of empty slots are.
    places = (labels == IGNORED).long().argsort(dim=1, stable=True)[:, :max_masks]
    states = m.bert(batch["text_ids_mlm"], layout, seen.image, Seen(mask=seen.mask))
    chosen = states.gather(1, places[..., None].expand(-1, -1, states.shape[-1]))
    return F.cross_entropy(m.text_encoder.logits(chosen).flatten(0, 1), labels.gather(1, places).flatten())


def box_loss(m: Any, batch: Batch, texts: Tensor, layout: PaddedLayout, seen: Shown) -> Tensor:
    """A fusion pass of the clean sentences with their whole images, one image for every row."""
    states = m.bert.fuse(texts, layout, seen.whole[batch["idx_to_group_img"]], Seen())
    coord = m.bbox_head(states[:, 0]).sigmoid()
    distance, giou = box_losses(coord, batch["target_bbox"], 1 - batch["is_image"])
    return distance + giou
