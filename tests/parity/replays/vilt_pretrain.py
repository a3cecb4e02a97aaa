"""ViLT's MLM + ITM + word-patch alignment step: layers, Eq. 8, logits, losses, gradients.

Source: docs/official/vilt.md §4, §5, §10, §11.
"""

from __future__ import annotations

from collections import ChainMap
from collections.abc import Callable, Sequence
from functools import cache, partial
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor

from epic_common.saliency import log_saliency
from tests.parity.replays import PLAIN, TRAINING_PATH, Fixture, Given, Outputs, piece, replay
from tests.parity.replays.filling import built_outputs
from tests.parity.replays.vilt_models import (
    Batch,
    batch_of,
    captured_blocks,
    filled_model,
    forced_patches,
    kept_patches,
)
from vilt.modules.epic_vilt import ViltTeacher
from vilt.modules.vilt_module import ViLTransformerSS
from vilt.modules.word_patch_alignment import (
    WEIGHT,
    aligned_patches,
    aligned_words,
    cost_matrix,
    transport_distance,
    transport_plan,
)

Made = Callable[[], dict[str, Any]]  # an objective's outputs by name


@replay("vilt", "pretrain", modes=(PLAIN, TRAINING_PATH))
def pretrain(fixture: Fixture, mode: str) -> Outputs:
    model = filled_model(fixture)
    yield from built_outputs(fixture, model)
    batch = batch_of(fixture, mode, "image", "false_image_0", "text_ids_mlm", "text_labels_mlm")
    own, mixed = (partial(kept_patches, fixture, batch, choice=name) for name in ("patch_index", "patch_index_itm"))

    def itm_labels() -> Tensor:
        return torch.from_numpy(fixture.choices["itm_labels"]).long()

    if mode == PLAIN:
        yield from _pass(model, batch, own)
        made = [
            cache(lambda: dict(_masked(model, batch, own()))),
            cache(lambda: dict(_matched(model, batch, itm_labels(), mixed()))),
        ]
    else:
        yield from _taught(model, batch, own)
        made = [cache(lambda: dict(_trained(model, batch.whole(), itm_labels(), own(), mixed())))]
    for objectives in made:
        yield from _all(objectives)
    yield from _gradients(fixture, model, made)


@piece
def _all(made: Made) -> Outputs:
    yield from made().items()


# The plain computation -----------------------------------------------------------------------------------


@torch.no_grad()
@piece
def _pass(model: ViLTransformerSS, batch: Batch, kept: Callable[[], Tensor]) -> Outputs:
    """Unmasked text with the true image."""
    yield "text_embeddings", lambda: model.encode_text(batch["text_ids"])
    with forced_patches(kept()):
        tokens = model.encode_image(batch["image"][0])
        yield "visual_embed", tokens.states
        states: dict[str, Tensor] = {}
        with captured_blocks(model, states):
            result = model.infer(batch)
    yield "visual_mask", result["image_masks"]
    yield "grid_hw", torch.tensor(result["patch_index"][1])
    yield "co_mask", torch.cat([batch["text_masks"], result["image_masks"]], dim=1)
    yield from states.items()
    yield from result.items()
    depth, length = len(model.transformer.blocks), batch["text_ids"].shape[1]
    for name, i in (("penultimate", depth - 2), ("last", depth - 1)):
        block: Any = model.transformer.blocks[i]
        x = block.norm1(states[f"block{i}_in"])
        key = block.attn.key(x[:, :length]).transpose(1, 2)
        yield from _eq8(name, block.attn.query(x[:, length]), key, batch["text_masks"])


def _eq8(layer: str, query: Tensor, key: Tensor, text_mask: Tensor) -> Outputs:
    """Eq. 8 from q (B, h, d_h) and K (B, h, n, d_h), with [CLS] and [SEP] and without them."""
    scores = torch.einsum("bhd,bhnd->bhn", query, key).mean(dim=1)
    yield f"eq8_{layer}_scores", scores
    yield f"eq8_{layer}_alpha_attended", log_saliency(scores, text_mask.bool(), 1.0).exp()
    yield f"eq8_{layer}_alpha_tokens", log_saliency(scores, aligned_words(text_mask), 1.0).exp()


# As the formulas say: images again for every objective, logits at every position.


def _masked(model: ViLTransformerSS, batch: Given, own: Tensor) -> Outputs:
    with forced_patches(own):
        text = model.infer(batch, mask_text=True)
    logits, labels = model.mlm_score(text["text_feats"]), text["text_labels"]
    mlm_loss = F.cross_entropy(logits.flatten(0, 1), labels.flatten(), ignore_index=-100)
    yield "mlm_logits", logits
    yield from _at_labels(logits[labels != -100], labels[labels != -100])
    yield "mlm_loss", mlm_loss


def _matched(model: ViLTransformerSS, batch: Given, itm_labels: Tensor, mixed: Tensor) -> Outputs:
    keeps = itm_labels.bool()[:, None, None, None]
    images = torch.where(keeps, batch["image"][0], batch["false_image_0"][0])
    with forced_patches(mixed):
        pair = model.infer(batch.also(image=[images]))
    itm_logits = model.itm_score(pair["cls_feats"])
    itm_loss = F.cross_entropy(itm_logits, itm_labels)
    yield "itm_logits", itm_logits
    yield "itm_loss", itm_loss

    words, patches = aligned_words(batch["text_masks"]), aligned_patches(pair["image_masks"].bool())
    cost = cost_matrix(pair["text_feats"], words, pair["image_feats"], patches)
    plan = transport_plan(cost, words, patches)
    distance = transport_distance(cost, plan)
    wpa_loss = WEIGHT * (distance[itm_labels == 1].sum() - distance[itm_labels == 0].sum()) / len(itm_labels)
    yield "wpa_cost", cost
    yield "wpa_plan", plan
    yield "wpa_plan_sum", plan.sum(dim=(1, 2))
    yield "wpa_distance", distance
    yield "itm_wpa_loss", wpa_loss


def _at_labels(logits: Tensor, labels: Tensor) -> Outputs:
    yield "mlm_logit_at_label", logits.gather(1, labels[:, None]).squeeze(1)
    yield "mlm_logsumexp_at_label", logits.logsumexp(dim=-1)


# The training path ---------------------------------------------------------------------------------------


@torch.no_grad()
@piece
def _taught(model: ViLTransformerSS, batch: Given, kept: Callable[[], Tensor]) -> Outputs:
    with forced_patches(kept()):
        query, key = ViltTeacher.query_key(cast(ViltTeacher, model), batch, layer=-2)
        yield from _eq8("penultimate", query, key, batch["text_masks"])


def _trained(model: ViLTransformerSS, batch: Given, itm_labels: Tensor, own: Tensor, mixed: Tensor) -> Outputs:
    with forced_patches(torch.cat([own, mixed[itm_labels == 0]])):
        outputs = model(batch, itm_labels)
    yield from outputs.items()
    yield from _at_labels(outputs["mlm_logits"], outputs["mlm_labels"])


# Gradients -----------------------------------------------------------------------------------------------


@piece
def _gradients(fixture: Fixture, model: ViLTransformerSS, made: Sequence[Made]) -> Outputs:
    """As stored: norms taken in float32, which is inexact for the largest matrices (3e-4) and the same everywhere."""
    outputs = dict(ChainMap(*(objectives() for objectives in made)))
    total = outputs["mlm_loss"] + outputs["itm_loss"] + outputs["itm_wpa_loss"]
    yield "total_loss", total
    total.backward()
    parameters = dict(model.named_parameters())
    keys = fixture.inputs["grad_norm_keys"]
    yield "grad_norms", torch.stack([parameters[key].grad.norm() for key in keys])  # type: ignore[union-attr]
