"""ViLT's objectives: MLM, ITM with word-patch alignment and MPP; retrieval, VQAv2 and NLVR2.

Here the passes through the model; what follows them is in ``vlp.sacred_dialect.objectives``.

Source: docs/official/vilt.md §5, §7.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from vilt.modules.batches import image_of, together
from vilt.modules.vilt_model import ViltModel
from vilt.modules.vision_transformer import ImageTokens
from vilt.modules.word_patch_alignment import aligned_patches, aligned_words, alignment_loss
from vlp.data.masking import IGNORED
from vlp.losses.cross_entropy import mean_cross_entropy
from vlp.sacred_dialect.objectives import caption_candidates, classified, irtr_outputs, mlm_outputs, vqa_outputs


def encode_step_images(
    model: ViltModel, batch: dict[str, Any], itm_labels: Tensor | None
) -> tuple[ImageTokens, ImageTokens | None]:
    """Tokens of the true images, and of ITM's mixture; every distinct image is embedded once, its patches chosen once.

    Returns:
        true images; mixed images, or None without ``itm_labels`` (B,).
    """
    if itm_labels is None:
        return model.encode_image(*image_of(batch, "image")), None
    tokens = model.encode_image(*together(image_of(batch, "image"), image_of(batch, "false_image_0")))
    place = torch.arange(len(tokens.mask), device=itm_labels.device)
    own, added = place[: len(itm_labels)], place[len(itm_labels) :]
    return tokens.take(own), tokens.take(own.index_copy(0, batch["itm_negatives"], added))


def compute_mlm(model: ViltModel, batch: dict[str, Any], image: ImageTokens) -> dict[str, Any]:
    """Masked text with the true image; the last block and the vocabulary logits at the K masked positions only."""
    labels = batch["text_labels_mlm"]
    masked = labels != IGNORED
    fused = model.fuse(model.encode_text(batch["text_ids_mlm"]), batch["text_masks"], image, read=masked)
    return mlm_outputs(model.mlm_score, fused.text[masked], labels[masked])


def compute_mpp(model: ViltModel, batch: dict[str, Any], image: ImageTokens) -> dict[str, Any]:
    """Unmasked text with the masked true image; the last block and the logits at the K labelled patches only.

    Logits (3K, 256) and labels (3K,) stand patch by patch, channel by channel; the loss is 0 if K = 0.
    """
    image, labels = model.mask_patches(image, batch["image"][0])
    labelled = labels[..., 0] != IGNORED
    mask = batch["text_masks"]
    read = F.pad(labelled, (mask.shape[1], 0))
    fused = model.fuse(model.encode_text(batch["text_ids"]), mask, image, read=read)
    logits, targets = model.mpp_score(fused.image[labelled]).flatten(0, 1), labels[labelled].flatten()
    return {"mpp_loss": mean_cross_entropy(logits, targets), "mpp_logits": logits, "mpp_labels": targets}


def compute_itm_wpa(
    model: ViltModel, batch: dict[str, Any], mixed_image: ImageTokens | None, itm_labels: Tensor
) -> dict[str, Any]:
    """Matched (1) against mismatched (0), and word-patch alignment: unmasked text with the mixed images."""
    assert mixed_image is not None
    mask = batch["text_masks"]
    fused = model.fuse(model.encode_text(batch["text_ids"]), mask, mixed_image)
    outputs = classified("itm", model.itm_score(model.pooler(fused.text[:, 0])), itm_labels)
    words, patches = aligned_words(mask), aligned_patches(mixed_image.mask)
    return {**outputs, "itm_wpa_loss": alignment_loss(fused.text, words, fused.image, patches, itm_labels)}


def compute_vqa(model: ViltModel, batch: dict[str, Any], image: ImageTokens) -> dict[str, Any]:
    """Soft scores of VQAv2's answers."""
    pair = pooled(model, model.encode_text(batch["text_ids"]), batch["text_masks"], image)
    return vqa_outputs(model.vqa_classifier(pair), batch, model.training)


def compute_nlvr2(model: ViltModel, batch: dict[str, Any]) -> dict[str, Any]:
    """True (1) against false (0): one statement with two images, each of its own modality."""
    images = model.encode_image(*together(*(image_of(batch, f"image_{i}") for i in range(2))))
    size, pairs = len(batch["text_ids"]), []
    for i in range(2):
        text, image = model.encode_text(batch["text_ids"]), images.take(slice(i * size, (i + 1) * size))
        pairs.append(pooled(model, text, batch["text_masks"], image, token_type=i + 1))
    return classified("nlvr2", model.nlvr2_classifier(torch.cat(pairs, dim=-1)), batch["answers"])


def compute_irtr(model: ViltModel, batch: dict[str, Any], image: ImageTokens) -> dict[str, Any]:
    """The true caption among 1 + draw_false_text captions of each image."""
    false_texts = model.config["draw_false_text"]
    ids, mask = caption_candidates(batch, false_texts)
    each = torch.arange(len(image.mask), device=ids.device).repeat_interleave(1 + false_texts)
    return irtr_outputs(model.rank_output(pooled(model, model.encode_text(ids), mask, image.take(each))), false_texts)


def pooled(model: ViltModel, text: Tensor, mask: Tensor, image: ImageTokens, token_type: int = 1) -> Tensor:
    """cls_feats (B, d) of embedded text (B, n, d), mask (B, n), with images; the last block at text [CLS] only."""
    first = mask.new_ones(len(mask), 1).bool()
    return model.pooler(model.fuse(text, mask, image, token_type=token_type, read=first).text[:, 0])
