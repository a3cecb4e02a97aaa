"""METER's objectives: MLM and ITM of pre-training, retrieval, VQAv2, NLVR2 and SNLI-VE.

Here the passes through the model; what follows them is in ``vlp.sacred_dialect.objectives``.

Source: docs/official/meter.md §5, §7.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from meter.modules.meter_model import MeterModel
from vlp.sacred_dialect.objectives import caption_candidates, classified, irtr_outputs, mlm_outputs, vqa_outputs


def encode_step_images(
    model: MeterModel, batch: dict[str, Any], itm_labels: Tensor | None
) -> tuple[Tensor, Tensor | None]:
    """Features of the true images, and of ITM's mixture; every distinct image goes through the tower once.

    The official step encodes the true images, then the mixture again. With CLIP (no dropout) the numbers are
    the same; with Swin the passes share one drop-path mask.

    Returns:
        true image states (B, P, d); mixed image states (B, P, d), or None without ``itm_labels`` (B,).
    """
    images = batch["image"][0]
    if itm_labels is None:
        return model.encode_image(images), None
    negatives = batch["itm_negatives"]
    features = model.encode_image(torch.cat([images, batch["false_image_0"][0]]))
    true, false = features.split([len(images), len(negatives)])
    return true, true.index_copy(0, negatives, false)


def compute_mlm(model: MeterModel, batch: dict[str, Any], image: Tensor) -> dict[str, Any]:
    """Masked text with the true image (B, P, d); vocabulary logits (K, vocab) at the K masked positions only."""
    labels, mask = batch["text_labels_mlm"], batch["text_masks"]
    fused = model.fuse(model.encode_text(batch["text_ids_mlm"], mask), mask, image, image_stream=False)
    masked = labels != -100
    return mlm_outputs(model.mlm_score, fused.text[masked], labels[masked])


def compute_itm(
    model: MeterModel, batch: dict[str, Any], mixed_image: Tensor | None, itm_labels: Tensor
) -> dict[str, Any]:
    """Matched (1) against mismatched (0): unmasked text with the mixed images (B, P, d)."""
    assert mixed_image is not None
    return classified("itm", model.itm_score(pooled_pair(model, batch, mixed_image)), itm_labels)


def compute_irtr(model: MeterModel, batch: dict[str, Any], image: Tensor) -> dict[str, Any]:
    """The true caption among 1 + draw_false_text captions of each image (B, P, d)."""
    false_texts = model.config["draw_false_text"]
    ids, mask = caption_candidates(batch, false_texts)
    images = image.repeat_interleave(1 + false_texts, dim=0)
    fused = model.fuse(model.encode_text(ids, mask), mask, images, pooled_only=True)
    return irtr_outputs(model.rank_output(model.pool(fused)), false_texts)


def compute_vqa(model: MeterModel, batch: dict[str, Any], image: Tensor) -> dict[str, Any]:
    """Soft scores of VQAv2's answers; image (B, P, d)."""
    return vqa_outputs(model.vqa_classifier(pooled_pair(model, batch, image)), batch, model.training)


def compute_nlvr2(model: MeterModel, batch: dict[str, Any]) -> dict[str, Any]:
    """True (1) against false (0): one statement with two images, each encoded once.

    The official code encodes the text again for the second image; here both passes share it (and its dropout).
    """
    mask = batch["text_masks"]
    text = model.encode_text(batch["text_ids"], mask)
    images = [model.encode_image(batch[f"image_{i}"][0], token_type=i + 1) for i in range(2)]
    pairs = [model.pool(model.fuse(text, mask, image, pooled_only=True)) for image in images]
    return classified("nlvr2", model.nlvr2_classifier(torch.cat(pairs, dim=-1)), batch["answers"])


def compute_snli(model: MeterModel, batch: dict[str, Any], image: Tensor) -> dict[str, Any]:
    """Contradiction (0), neutral (1), entailment (2) of a hypothesis and image (B, P, d)."""
    return classified("snli", model.snli_classifier(pooled_pair(model, batch, image)), batch["labels"])


def pooled_pair(model: MeterModel, batch: dict[str, Any], image: Tensor) -> Tensor:
    """cls_feats (B, 2d) of the unmasked text with image (B, P, d)."""
    mask = batch["text_masks"]
    return model.pool(model.fuse(model.encode_text(batch["text_ids"], mask), mask, image, pooled_only=True))
