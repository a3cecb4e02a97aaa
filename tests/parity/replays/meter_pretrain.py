"""METER's MLM + ITM step: every layer, saliency, logits, losses, gradients, optimiser steps.

Source: docs/official/meter.md §4, §5, §6, §10, §11.
"""

from __future__ import annotations

from typing import cast
from unittest.mock import patch

import torch
import torch.nn.functional as F
from torch import Tensor

from epic_common.saliency import log_saliency, saliency_scores
from meter.modules.epic_meter import MeterTeacher
from meter.modules.meter_module import METERTransformerSS
from meter.modules.meter_utils import set_schedule
from tests.parity.replays import PLAIN, TRAINING_PATH, Fixture, Outputs, replay
from tests.parity.replays.filling import built_outputs
from tests.parity.replays.meter_models import (
    Batch,
    batch_of,
    described_pass,
    filled_model,
    mixed_images,
    pooled,
    summaries,
)
from vlp.data.trim import trimmed

Losses = tuple[Tensor, Tensor]


@replay("meter", "pretrain", modes=(PLAIN, TRAINING_PATH))
def pretrain(fixture: Fixture, mode: str) -> Outputs:
    model = filled_model(fixture)
    batch = batch_of(fixture)
    itm_labels = torch.from_numpy(fixture.choices["itm_labels"]).long()
    yield from built_outputs(fixture, model)
    yield from (_plain_outputs if mode == PLAIN else _training_outputs)(model, batch, itm_labels)
    if "grad_rows" in fixture.arrays:
        yield from _gradients(fixture, model, batch, itm_labels, mode)
    if fixture.trajectory:
        yield from _trajectory(fixture, model, batch, mode)


# The plain computation -----------------------------------------------------------------------------------


@torch.no_grad()
def _plain_outputs(model: METERTransformerSS, batch: Batch, itm_labels: Tensor) -> Outputs:
    mixed = mixed_images(batch, itm_labels)
    masked_batch = {**batch, "text_ids": batch["text_ids_mlm"]}
    passes = {
        "mlm": (masked_batch, batch["image"][0]),
        "itm": (batch, mixed),
        "clean": (batch, batch["image"][0]),
    }
    results = {}
    for name, (inputs, images) in passes.items():
        results[name], outputs = described_pass(model, name, inputs, images)
        yield from outputs
    clean = results["clean"]
    yield from summaries("text_feats", clean["text_feats"])
    yield from summaries("image_feats", clean["image_feats"])
    yield "cls_feats", clean["cls_feats"]
    yield "itm_logits_true_image", model.itm_score(clean["cls_feats"])
    logits = model.mlm_score(results["mlm"]["text_feats"])
    labels = batch["text_labels_mlm"]
    masked = labels != -100
    yield "mlm_positions", masked.nonzero()
    yield from _mlm_logits(logits[masked], labels[masked])
    yield "mlm_logsumexp", logits.double().logsumexp(dim=-1)
    yield "itm_logits", model.itm_score(results["itm"]["cls_feats"])
    mlm_loss, itm_loss = plain_losses(model, batch, itm_labels)
    yield "mlm_loss", mlm_loss
    yield "itm_loss", itm_loss


def plain_losses(model: METERTransformerSS, batch: Batch, itm_labels: Tensor) -> Losses:
    """Both losses as the formulas say: every image again for every objective, logits at every position."""
    text = model.infer(batch, mask_text=True)
    mlm = F.cross_entropy(model.mlm_score(text["text_feats"]).flatten(0, 1), text["text_labels"].flatten())
    pair = model.infer(batch, img=mixed_images(batch, itm_labels))
    return mlm, F.cross_entropy(model.itm_score(pair["cls_feats"]), itm_labels)


def _mlm_logits(logits: Tensor, labels: Tensor) -> Outputs:
    yield "mlm_logits_at", logits
    yield "mlm_logits_label", logits.gather(1, labels[:, None]).squeeze(1)


# The training path ---------------------------------------------------------------------------------------


@torch.no_grad()
def _training_outputs(model: METERTransformerSS, batch: Batch, itm_labels: Tensor) -> Outputs:
    outputs = model(batch, itm_labels)
    yield "mlm_loss", outputs["mlm_loss"]
    yield "itm_loss", outputs["itm_loss"]
    yield "itm_logits", outputs["itm_logits"]
    yield from _mlm_logits(outputs["mlm_logits"], outputs["mlm_labels"])
    pair = pooled(model, batch)
    yield "cls_feats", pair
    yield "itm_logits_true_image", model.itm_score(pair)
    short = trimmed(batch)
    # The fixtures have image token 0's query, whatever pooling the tower has.
    with patch.object(model.vit_model, "image_pool", "first"):
        query, key = MeterTeacher.query_key(cast(MeterTeacher, model), short, layer=-2)
    alpha = log_saliency(saliency_scores(query, key), short["text_masks"].bool()).exp()
    yield "clean.saliency_alpha_masked", F.pad(alpha, (0, batch["text_ids"].shape[1] - alpha.shape[1]))


def training_losses(model: METERTransformerSS, batch: Batch, itm_labels: Tensor) -> Losses:
    outputs = model(batch, itm_labels)
    return outputs["mlm_loss"], outputs["itm_loss"]


# Gradients and optimiser steps ---------------------------------------------------------------------------

LOSSES = {PLAIN: plain_losses, TRAINING_PATH: training_losses}


def _gradients(fixture: Fixture, model: METERTransformerSS, batch: Batch, itm_labels: Tensor, mode: str) -> Outputs:
    model.zero_grad()
    sum(LOSSES[mode](model, batch, itm_labels)).backward()  # type: ignore[union-attr]
    gradients = {name: p.grad for name, p in model.official_named_parameters()}
    rows = [i for i, key in enumerate(fixture.key_table()) if gradients.get(key) is not None]
    keys = list(fixture.key_table())
    norms = torch.stack([gradients[keys[i]].double().norm() for i in rows])  # type: ignore[union-attr]
    yield "grad_rows", torch.tensor(rows)
    yield "grad_norms", norms
    yield "grad_total_norm", norms.norm()
    model.zero_grad()


def _trajectory(fixture: Fixture, model: METERTransformerSS, batch: Batch, mode: str) -> Outputs:
    (optimizer,), (schedule,) = set_schedule(model)
    losses, rates = [], []
    for itm_labels in torch.from_numpy(fixture.choices["traj_itm_labels"]).long():
        step = LOSSES[mode](model, batch, itm_labels)
        losses.append([float(loss.detach()) for loss in step])
        rates.append([group["lr"] for group in optimizer.param_groups])
        sum(step).backward()  # type: ignore[union-attr]
        optimizer.step()
        optimizer.zero_grad()
        schedule["scheduler"].step()
    yield "traj_losses", torch.tensor(losses)
    yield "traj_lr", torch.tensor(rates, dtype=torch.float64)
    state, keys = model.state_dict(), list(fixture.key_table())
    for name in fixture.arrays:
        if name.startswith("after."):
            yield name, state[name.removeprefix("after.")]
    for name in ("after", "after_roundoff"):
        rows = fixture.inputs[f"{name}_rows"]
        yield f"{name}_abs_sum", torch.stack([state[keys[row]].double().abs().sum() for row in rows])
