"""METER's objectives: MLM and ITM of pre-training (SPEC §5), retrieval, VQAv2, NLVR2 and SNLI-VE (SPEC §7).

Every function returns its loss under a key that ends in ``_loss`` and what the metrics need beside it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from torch import Tensor

from vlp.nn.attention import trim_padding

if TYPE_CHECKING:
    from meter.modules.meter_module import METERTransformerSS


def draw_itm_labels(batch: dict[str, Any]) -> Tensor:
    """B//2 ones ("keeps its image") and B - B//2 zeros, randomly permuted, (B,) int64."""
    size = batch["text_ids"].shape[0]
    labels = (torch.arange(size) < size // 2).long()
    return labels[torch.randperm(size)].to(batch["text_ids"].device)


def encode_step_images(
    model: METERTransformerSS, batch: dict[str, Any], itm_labels: Tensor | None
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
    negatives = (itm_labels == 0).nonzero().squeeze(1)
    features = model.encode_image(torch.cat([images, batch["false_image_0"][0][negatives]]))
    true, false = features.split([len(images), len(negatives)])
    return true, true.index_copy(0, negatives, false)


def compute_mlm(model: METERTransformerSS, batch: dict[str, Any], image: Tensor) -> dict[str, Any]:
    """Mean cross-entropy at the masked positions, masked text with the true image; 0 if nothing is masked.

    Vocabulary logits (K, vocab) are computed at the K masked positions only.
    """
    labels, mask = batch["text_labels_mlm"], batch["text_masks"]
    text = model.encode_text(batch["text_ids_mlm"], mask)
    fused = model.fuse(text, mask, image, image_stream=False)
    masked = labels != -100
    logits = model.mlm_score(fused.text[masked])
    targets = labels[masked]
    # The official mean is NaN in a batch without a masked token; a sum over max(K, 1) is 0 there.
    loss = F.cross_entropy(logits.float(), targets, reduction="sum") / max(len(targets), 1)
    return {"mlm_loss": loss, "mlm_logits": logits, "mlm_labels": targets}


def compute_itm(
    model: METERTransformerSS, batch: dict[str, Any], mixed_image: Tensor | None, itm_labels: Tensor
) -> dict[str, Any]:
    """Cross-entropy of matched (1) against mismatched (0): unmasked text with the mixed images (B, P, d)."""
    assert mixed_image is not None
    mask = batch["text_masks"]
    text = model.encode_text(batch["text_ids"], mask)
    logits = model.itm_score(model.pool(model.fuse(text, mask, mixed_image, pooled_only=True)))
    return {"itm_loss": F.cross_entropy(logits.float(), itm_labels), "itm_logits": logits, "itm_labels": itm_labels}


def compute_irtr(model: METERTransformerSS, batch: dict[str, Any], image: Tensor) -> dict[str, Any]:
    """Cross-entropy of the true caption (index 0) among 1 + draw_false_text captions of each image (B, P, d)."""
    count = model.config["draw_false_text"] + 1
    keys = ["text", *(f"false_text_{i}" for i in range(count - 1))]
    ids = torch.stack([batch[f"{key}_ids"] for key in keys], dim=1).flatten(0, 1)
    mask = torch.stack([batch[f"{key}_masks"] for key in keys], dim=1).flatten(0, 1)
    mask, ids = trim_padding(mask, ids)
    fused = model.fuse(model.encode_text(ids, mask), mask, image.repeat_interleave(count, dim=0), pooled_only=True)
    scores = model.rank_output(model.pool(fused)).view(-1, count)
    answer = torch.zeros(len(scores), dtype=torch.long, device=scores.device)
    return {"irtr_loss": F.cross_entropy(scores.float(), answer), "irtr_logits": scores, "irtr_labels": answer}


def compute_vqa(model: METERTransformerSS, batch: dict[str, Any], image: Tensor) -> dict[str, Any]:
    """Mean binary cross-entropy against the soft scores, times the number of answers C; image (B, P, d).

    Questions of the test split have no answers: then the logits (B, C) and nothing else is returned.
    """
    mask = batch["text_masks"]
    text = model.encode_text(batch["text_ids"], mask)
    logits = model.vqa_classifier(model.pool(model.fuse(text, mask, image, pooled_only=True)))
    if not (model.training or any(batch["vqa_labels"])):
        return {"vqa_logits": logits}
    targets = torch.zeros_like(logits, dtype=torch.float32)
    for row, (labels, scores) in enumerate(zip(batch["vqa_labels"], batch["vqa_scores"], strict=True)):
        targets[row, labels] = torch.tensor(scores, device=targets.device)
    loss = F.binary_cross_entropy_with_logits(logits.float(), targets) * targets.shape[1]
    return {"vqa_loss": loss, "vqa_logits": logits, "vqa_labels": targets}


def compute_nlvr2(model: METERTransformerSS, batch: dict[str, Any]) -> dict[str, Any]:
    """Cross-entropy of true (1) against false (0): one statement with two images, each encoded once.

    The official code encodes the text again for the second image; here both passes share it (and its dropout).
    """
    mask = batch["text_masks"]
    text = model.encode_text(batch["text_ids"], mask)
    images = [model.encode_image(batch[f"image_{i}"][0], token_type=i + 1) for i in range(2)]
    pairs = [model.pool(model.fuse(text, mask, image, pooled_only=True)) for image in images]
    return _classified("nlvr2", model.nlvr2_classifier(torch.cat(pairs, dim=-1)), batch["answers"])


def compute_snli(model: METERTransformerSS, batch: dict[str, Any], image: Tensor) -> dict[str, Any]:
    """Cross-entropy over contradiction (0), neutral (1), entailment (2) of a hypothesis and image (B, P, d)."""
    mask = batch["text_masks"]
    text = model.encode_text(batch["text_ids"], mask)
    logits = model.snli_classifier(model.pool(model.fuse(text, mask, image, pooled_only=True)))
    return _classified("snli", logits, batch["labels"])


def _classified(task: str, logits: Tensor, labels: Sequence[int]) -> dict[str, Any]:
    targets = torch.tensor(labels, device=logits.device).long()
    loss = F.cross_entropy(logits.float(), targets)
    return {f"{task}_loss": loss, f"{task}_logits": logits, f"{task}_labels": targets}
