"""METER's objectives: MLM and ITM of pre-training, retrieval, VQAv2, NLVR2 and SNLI-VE.

Here what goes through the model; what follows is in ``vlp.sacred_dialect.objectives``.

Source: docs/official/meter.md §5, §7.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from meter.modules.meter_model import Fused, MeterModel
from vlp.nn.padding import Queries
from vlp.sacred_dialect.joint_pass import Pass
from vlp.sacred_dialect.objectives import classified, irtr_outputs, mlm_outputs, vqa_outputs

Batch = dict[str, Any]


def encode_step_images(model: MeterModel, batch: Batch) -> tuple[Tensor, Tensor]:
    """Features of the true images, and of ITM's mixture; every distinct image goes through the tower once.

    The official step encodes the true images, then the mixture again. With CLIP (no dropout) the numbers are
    the same; with Swin the passes share one drop-path mask.

    Returns:
        true image states (B, P, d); mixed image states (B, P, d), without ITM the true ones.
    """
    images = batch["image"][0]
    if "itm" not in model.current_tasks:
        true = model.encode_image(images)
        return true, true
    negatives, false_images = batch["itm_negatives"], batch["false_image_0"][0]
    true, false = model.encode_image(torch.cat([images, false_images])).split([len(images), len(false_images)])
    return true, true.index_copy(0, negatives, false)


def mlm_pass(model: MeterModel, batch: Batch, image: Tensor) -> Pass:
    """Masked text with the true image (B, P, d); last states and vocabulary logits at the K masked positions only."""
    read: Queries = batch["plan"]["mlm"]
    labels = batch["text_labels_mlm"][read.row, read.place]
    return Pass(batch["text_ids_mlm"], image, lambda fused: mlm_outputs(model.mlm_score, fused.text, labels), read)


def itm_pass(model: MeterModel, batch: Batch, mixed_image: Tensor) -> Pass:
    """Matched (1) against mismatched (0): unmasked text with the mixed images (B, P, d)."""
    labels = batch["itm_labels"]
    return pair_pass(model, batch, mixed_image, lambda pair: classified("itm", model.itm_score(pair), labels))


def vqa_pass(model: MeterModel, batch: Batch, image: Tensor) -> Pass:
    """Soft scores of VQAv2's answers; image (B, P, d)."""
    return pair_pass(model, batch, image, lambda pair: vqa_outputs(model.vqa_classifier(pair), batch, model.training))


def snli_pass(model: MeterModel, batch: Batch, image: Tensor) -> Pass:
    """Contradiction (0), neutral (1), entailment (2) of a hypothesis and image (B, P, d)."""
    labels = batch["labels"]
    return pair_pass(model, batch, image, lambda pair: classified("snli", model.snli_classifier(pair), labels))


def pair_pass(model: MeterModel, batch: Batch, image: Tensor, outputs: Callable[[Tensor], dict[str, Any]]) -> Pass:
    """Unmasked text with image (B, P, d); ``outputs`` gets cls_feats (B, 2d)."""
    return Pass(batch["text_ids"], image, lambda fused: outputs(model.pool(fused)), pooled=True)


def compute_irtr(model: MeterModel, batch: Batch, image: Tensor) -> dict[str, Any]:
    """The true caption among 1 + draw_false_text captions of each image (B, P, d)."""
    false_texts, plan = model.config["draw_false_text"], batch["plan"]["candidates"]
    images = image.repeat_interleave(1 + false_texts, dim=0)

    def finish(fused: Fused) -> dict[str, Any]:
        return irtr_outputs(model.rank_output(model.pool(fused)), false_texts)

    return model.outputs_of([Pass(batch["plan"]["candidate_ids"], images, finish, pooled=True)], plan)


def compute_nlvr2(model: MeterModel, batch: Batch) -> dict[str, Any]:
    """True (1) against false (0): one statement with two images, each encoded once.

    The official code encodes the text again for the second image; here both passes share it (and its dropout).
    """
    layout = model.text_layout(batch["plan"]["text"])
    text = model.encode_text(batch["text_ids"], layout)
    images = [model.encode_image(batch[f"image_{i}"][0], token_type=i + 1) for i in range(2)]
    fused = [model.fuse(text, layout, image, model.image_layout, pooled_only=True) for image in images]
    pairs = torch.cat([model.pool(states) for states in fused], dim=-1)
    return classified("nlvr2", model.nlvr2_classifier(pairs), batch["answers"])
