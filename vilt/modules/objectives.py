"""ViLT's objectives: MLM, ITM with word-patch alignment and MPP; retrieval, VQAv2 and NLVR2.

Here what goes through the model; what follows is in ``vlp.sacred_dialect.objectives``.

Source: docs/official/vilt.md §5, §7.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from vilt.modules.batches import image_of, together
from vilt.modules.vilt_model import Images, ViltModel
from vilt.modules.vision_transformer import ImageTokens
from vilt.modules.word_patch_alignment import aligned_patches, aligned_words, alignment_loss
from vlp.data.masking import IGNORED
from vlp.losses.cross_entropy import mean_cross_entropy
from vlp.nn.padding import Queries
from vlp.sacred_dialect.joint_pass import Pass
from vlp.sacred_dialect.objectives import classified, irtr_outputs, mlm_outputs, vqa_outputs

Batch = dict[str, Any]


def encode_step_images(model: ViltModel, batch: Batch) -> tuple[ImageTokens, ImageTokens]:
    """Tokens of the true images, and of ITM's mixture; every distinct image is embedded once, its patches chosen once.

    Returns:
        true images; mixed images, without ITM the true ones.
    """
    most, images = batch["plan"]["patches"], image_of(batch, "image")
    if "itm" not in model.current_tasks:
        tokens = model.encode_image(*images, most)
        return tokens, tokens
    tokens = model.encode_image(*together(images, image_of(batch, "false_image_0")), most)
    place = torch.arange(len(tokens.mask), device=tokens.mask.device)
    own, added = place.split([len(images[0]), len(batch["itm_negatives"])])
    return tokens.take(own), tokens.take(own.index_copy(0, batch["itm_negatives"], added))


def mlm_pass(model: ViltModel, batch: Batch, image: ImageTokens) -> Pass:
    """Masked text with the true image; the last block and the vocabulary logits at the K masked positions only."""
    read: Queries = batch["plan"]["mlm"]
    labels = batch["text_labels_mlm"][read.row, read.place]
    images = Images(image, batch["plan"]["joint"]["image"])
    return Pass(batch["text_ids_mlm"], images, lambda states: mlm_outputs(model.mlm_score, states, labels), read)


def mpp_pass(model: ViltModel, batch: Batch, image: ImageTokens) -> Pass:
    """Unmasked text with the masked true image; the last block and the logits at the K labelled patches only.

    Logits (3K, 256) and labels (3K,) stand patch by patch, channel by channel; the loss is 0 if K = 0. The patches are
    drawn here, so that a GPU's host waits for their number.
    """
    image, labels = model.mask_patches(image, batch["image"][0])
    labelled = labels[..., 0] != IGNORED
    targets = labels[labelled].flatten()

    def finish(states: Tensor) -> dict[str, Any]:
        logits = model.mpp_score(states).flatten(0, 1)
        return {"mpp_loss": mean_cross_entropy(logits, targets), "mpp_logits": logits, "mpp_labels": targets}

    read = Queries.of(F.pad(labelled, (batch["text_ids"].shape[1], 0)))
    return Pass(batch["text_ids"], Images(image, batch["plan"]["joint"]["image"]), finish, read)


def itm_wpa_pass(model: ViltModel, batch: Batch, mixed_image: ImageTokens) -> Pass:
    """Matched (1) against mismatched (0), and word-patch alignment: unmasked text with the mixed images."""
    images, labels, mask = (
        Images(mixed_image, batch["plan"]["joint"]["mixed"]),
        batch["itm_labels"],
        batch["text_masks"],
    )

    def finish(states: Tensor) -> dict[str, Any]:
        states = model.joint_layout(images.plan).pad(states)
        text, image = states.split([mask.shape[1], mixed_image.mask.shape[1]], dim=1)
        words, patches = aligned_words(mask), aligned_patches(mixed_image.mask)
        outputs = classified("itm", model.itm_score(model.pooler(text[:, 0])), labels)
        return {**outputs, "itm_wpa_loss": alignment_loss(text, words, image, patches, labels)}

    return Pass(batch["text_ids"], images, finish)


def vqa_pass(model: ViltModel, batch: Batch, image: ImageTokens) -> Pass:
    """Soft scores of VQAv2's answers."""
    images = Images(image, batch["plan"]["joint"]["image"])

    def finish(first: Tensor) -> dict[str, Any]:
        return vqa_outputs(model.vqa_classifier(model.pooler(first)), batch, model.training)

    return Pass(batch["text_ids"], images, finish, Queries.first(batch["text_masks"]))


def compute_nlvr2(model: ViltModel, batch: Batch) -> dict[str, Any]:
    """True (1) against false (0): one statement with two images, each of its own modality."""
    most = batch["plan"]["patches"]
    images = model.encode_image(*together(*(image_of(batch, f"image_{i}") for i in range(2))), most)
    size, pairs = len(batch["text_ids"]), []
    for i in range(2):
        text, image = model.encode_text(batch["text_ids"]), images.take(slice(i * size, (i + 1) * size))
        pairs.append(model.pooler(model.fuse(text, image, batch["plan"]["joint"][f"image_{i}"], token_type=i + 1)))
    return classified("nlvr2", model.nlvr2_classifier(torch.cat(pairs, dim=-1)), batch["answers"])


def compute_irtr(model: ViltModel, batch: Batch, image: ImageTokens) -> dict[str, Any]:
    """The true caption among 1 + draw_false_text captions of each image."""
    false_texts, ids = model.config["draw_false_text"], batch["plan"]["candidate_ids"]
    each = torch.arange(len(image.mask), device=ids.device)[:, None].expand(-1, 1 + false_texts).flatten()
    first = model.fuse(model.encode_text(ids), image.take(each), batch["plan"]["joint"]["candidates"])
    return irtr_outputs(model.rank_output(model.pooler(first)), false_texts)
