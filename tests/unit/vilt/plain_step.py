"""ViLT's training step by the plain formulas, and random batches to compare it on."""

from __future__ import annotations

from unittest.mock import patch

import torch
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional as F

from tests.unit.small_parts import candidates, gradients
from tests.unit.vilt.small import GRID, Batch, Sizes, batch_of
from vilt.modules import masked_patches, vision_transformer
from vilt.modules.vilt_module import ViLTransformerSS
from vilt.modules.word_patch_alignment import aligned_patches, aligned_words, alignment_loss

Losses = dict[str, Tensor]


def plain(model: ViLTransformerSS, batch: Batch, itm_labels: Tensor) -> Losses:
    """docs/official/vilt.md §5 and §7 word for word: a full pass per objective, logits everywhere."""
    losses: Losses = {}
    tasks = model.current_tasks
    if "mlm" in tasks:
        result = model.infer(batch, mask_text=True)
        losses["mlm_loss"] = mean_at_labels(model.mlm_score(result["text_feats"]), result["text_labels"])
    if "mpp" in tasks:
        result = model.infer(batch, mask_image=True)
        losses["mpp_loss"] = mean_at_labels(model.mpp_score(result["image_feats"]), result["image_labels"])
    if "itm" in tasks:
        result = model.infer(mixed(batch, itm_labels))
        losses["itm_loss"] = F.cross_entropy(model.itm_score(result["cls_feats"]), itm_labels)
        words, patches = aligned_words(batch["text_masks"]), aligned_patches(result["image_masks"].bool())
        losses["itm_wpa_loss"] = alignment_loss(result["text_feats"], words, result["image_feats"], patches, itm_labels)
    if "vqa" in tasks:
        logits = model.vqa_classifier(model.infer(batch)["cls_feats"])
        targets = torch.zeros_like(logits)
        for row, (labels, scores) in enumerate(zip(batch["vqa_labels"], batch["vqa_scores"], strict=True)):
            for label, score in zip(labels, scores, strict=True):
                targets[row, label] = score
        losses["vqa_loss"] = F.binary_cross_entropy_with_logits(logits, targets, reduction="sum") / len(logits)
    if "nlvr2" in tasks:
        pair = [model.infer(batch, image_token_type_idx=i)["cls_feats"] for i in (1, 2)]
        logits = model.nlvr2_classifier(torch.cat(pair, dim=1))
        losses["nlvr2_loss"] = F.cross_entropy(logits, torch.tensor(batch["answers"]).long())
    if "irtr" in tasks:
        scores = [model.rank_output(model.infer(b)["cls_feats"]) for b in candidates(batch)]
        losses["irtr_loss"] = F.cross_entropy(torch.cat(scores, dim=1), torch.zeros(len(itm_labels)).long())
    return losses


def mean_at_labels(logits: Tensor, labels: Tensor) -> Tensor:
    """Mean cross-entropy where labels are not -100; 0 if all are."""
    each = F.cross_entropy(logits.flatten(0, -2), labels.flatten(), reduction="none")
    return each.sum() / max(int((labels != -100).sum()), 1)


def mixed(batch: Batch, itm_labels: Tensor) -> Batch:
    """The batch with ITM's images: the sample's own where its label is 1, else its false one."""

    def chosen(own: Tensor, false: Tensor) -> Tensor:
        return torch.stack([(own if label else false)[i] for i, label in enumerate(itm_labels.tolist())])

    image: Batch = {"image": [chosen(batch["image"][0], batch["false_image_0"][0])]}
    if "sizes" in batch:
        image["sizes"] = {"image": chosen(batch["sizes"]["image"], batch["sizes"]["false_image_0"])}
    return {**batch, **image}


@st.composite
def batches(draw: st.DrawFn) -> tuple[Batch, Tensor]:
    """1 to 4 sentences with any padding, empty ones too, images of any size, any masked positions and labels."""
    lengths = draw(st.lists(st.integers(2, 9), min_size=1, max_size=4))
    size = len(lengths)
    grids = st.lists(st.tuples(*(st.integers(1, side) for side in GRID)), min_size=size, max_size=size)
    positions = [(row, column) for row, length in enumerate(lengths) for column in range(1, length - 1)]
    masked = draw(st.lists(st.sampled_from(positions), unique=True, max_size=6)) if positions else []
    labels = draw(st.lists(st.integers(0, 1), min_size=size, max_size=size))
    images: tuple[Sizes, Sizes] = draw(grids), draw(grids)
    padded_to, told = draw(st.integers(0, 12)), draw(st.booleans())
    batch = batch_of(lengths, padded_to, masked, *images, false_texts=2, tell_sizes=told, seed=draw(st.integers(0, 99)))
    answers = {"vqa_labels": [[i, 6] for i in range(size)], "vqa_scores": [[1.0, 0.3]] * size}
    return {**batch, **answers}, torch.tensor(labels)


def first_ones(valid: Tensor, max_image_len: int) -> Tensor:
    """Instead of the random choice: one that is the same in every pass."""
    return valid if max_image_len < 0 else valid & (valid.cumsum(dim=1) <= max_image_len)


def every_other(size: int, grid: tuple[int, int], device: torch.device) -> tuple[Tensor, Tensor]:
    """Instead of the random draws of masked patch prediction."""
    place = torch.arange(grid[0] * grid[1]).repeat(size, 1)
    return place % 2 == 0, place % 3 == 0


def check_step(model: ViLTransformerSS, batch: Batch, itm_labels: Tensor) -> None:
    model = model.double()
    batch = {key: [v.double() for v in value] if "image" in key else value for key, value in batch.items()}
    with (
        patch.object(vision_transformer, "choose_patches", first_ones),
        patch.object(masked_patches, "draw_patches", every_other),
    ):
        expected = plain(model, batch, itm_labels)
        wanted = gradients(model, expected)
        outputs = model(batch, itm_labels if "itm" in model.current_tasks else None)
    losses = {key: value for key, value in outputs.items() if key.endswith("_loss")}
    assert losses.keys() == expected.keys()
    for key, value in expected.items():  # losses are taken in float32
        assert torch.allclose(losses[key].double(), value.double(), rtol=1e-6, atol=1e-6), key
    got = gradients(model, losses)
    scale = max(float(gradient.abs().max()) for gradient in wanted.values())
    for name, gradient in wanted.items():
        assert torch.isfinite(got[name]).all()
        # Equal candidates cancel each other: then the float32 rounding of the loss is all that is left.
        assert torch.allclose(got[name], gradient, atol=1e-5 * scale + 1e-7), name
