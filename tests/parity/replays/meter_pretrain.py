"""METER's MLM + ITM step: every layer, saliency, logits, losses, gradients, optimiser steps.

Source: docs/official/meter.md §4, §5, §6, §10, §11.
"""

from __future__ import annotations

from functools import partial
from typing import cast
from unittest.mock import patch

import torch
import torch.nn.functional as F
from torch import Tensor

from epic_common.saliency import log_saliency, saliency_scores
from meter.modules.epic_meter import MeterTeacher
from meter.modules.meter_module import METERTransformerSS
from meter.modules.meter_utils import set_schedule
from tests.parity.replays import PLAIN, TRAINING_PATH, Fixture, Given, Outputs, once, piece, replay
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
    batch = batch_of(fixture, "image", "false_image_0", "text_ids_mlm", "text_labels_mlm")
    yield from built_outputs(fixture, model)
    yield from (_plain_outputs if mode == PLAIN else _training_outputs)(fixture, model, batch)
    if fixture.stores("grad_"):
        yield from _gradients(fixture, model, batch, mode)
    if fixture.stores("traj_", "after"):
        yield from _trajectory(fixture, model, batch, mode)


def _itm_labels(fixture: Fixture) -> Tensor:
    return torch.from_numpy(fixture.choices["itm_labels"]).long()


# The plain computation -----------------------------------------------------------------------------------


@torch.no_grad()
def _plain_outputs(fixture: Fixture, model: METERTransformerSS, batch: Given) -> Outputs:
    yield from _clean(model, batch)
    yield from _masked(model, batch)
    yield from _matched(fixture, model, batch)
    losses = once(lambda: plain_losses(model, batch.whole(), _itm_labels(fixture)))
    yield "mlm_loss", lambda: losses()[0]
    yield "itm_loss", lambda: losses()[1]


@piece
def _clean(model: METERTransformerSS, batch: Given) -> Outputs:
    clean, outputs = described_pass(model, "clean", batch, batch["image"][0])
    yield from outputs
    yield from summaries("text_feats", clean["text_feats"])
    yield from summaries("image_feats", clean["image_feats"])
    yield "cls_feats", clean["cls_feats"]
    yield "itm_logits_true_image", model.itm_score(clean["cls_feats"])


@piece
def _masked(model: METERTransformerSS, batch: Given) -> Outputs:
    yield "mlm_positions", lambda: (batch["text_labels_mlm"] != -100).nonzero()
    result, outputs = described_pass(model, "mlm", batch.also(text_ids=batch["text_ids_mlm"]), batch["image"][0])
    yield from outputs
    logits = model.mlm_score(result["text_feats"])
    yield "mlm_logsumexp", logits.double().logsumexp(dim=-1)
    labels = batch["text_labels_mlm"]
    yield from _mlm_logits(logits[labels != -100], labels[labels != -100])


@piece
def _matched(fixture: Fixture, model: METERTransformerSS, batch: Given) -> Outputs:
    result, outputs = described_pass(model, "itm", batch, mixed_images(batch, _itm_labels(fixture)))
    yield from outputs
    yield "itm_logits", model.itm_score(result["cls_feats"])


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
def _training_outputs(fixture: Fixture, model: METERTransformerSS, batch: Given) -> Outputs:
    pair = pooled(model, batch)
    yield "cls_feats", pair
    yield "itm_logits_true_image", model.itm_score(pair)
    short = trimmed(batch)
    # The fixtures have image token 0's query, whatever pooling the tower has.
    with patch.object(model.vit_model, "image_pool", "first"):
        query, key = MeterTeacher.query_key(cast(MeterTeacher, model), short, layer=-2)
    alpha = log_saliency(saliency_scores(query, key), short["text_masks"].bool()).exp()
    yield "clean.saliency_alpha_masked", F.pad(alpha, (0, batch["text_ids"].shape[1] - alpha.shape[1]))
    outputs = model(batch.whole(), _itm_labels(fixture))
    yield "mlm_loss", outputs["mlm_loss"]
    yield "itm_loss", outputs["itm_loss"]
    yield "itm_logits", outputs["itm_logits"]
    yield from _mlm_logits(outputs["mlm_logits"], outputs["mlm_labels"])


def training_losses(model: METERTransformerSS, batch: Batch, itm_labels: Tensor) -> Losses:
    outputs = model(batch, itm_labels)
    return outputs["mlm_loss"], outputs["itm_loss"]


# Gradients and optimiser steps ---------------------------------------------------------------------------

LOSSES = {PLAIN: plain_losses, TRAINING_PATH: training_losses}


@piece
def _gradients(fixture: Fixture, model: METERTransformerSS, batch: Given, mode: str) -> Outputs:
    model.zero_grad()
    sum(LOSSES[mode](model, batch.whole(), _itm_labels(fixture))).backward()  # type: ignore[union-attr]
    gradients = {name: p.grad for name, p in model.official_named_parameters()}
    rows = [i for i, key in enumerate(fixture.key_table()) if gradients.get(key) is not None]
    keys = list(fixture.key_table())
    norms = torch.stack([gradients[keys[i]].double().norm() for i in rows])  # type: ignore[union-attr]
    yield "grad_rows", torch.tensor(rows)
    yield "grad_norms", norms
    yield "grad_total_norm", norms.norm()
    model.zero_grad()


@piece
def _trajectory(fixture: Fixture, model: METERTransformerSS, batch: Given, mode: str) -> Outputs:
    (optimizer,), (schedule,) = set_schedule(model)
    losses, rates = [], []
    for itm_labels in torch.from_numpy(fixture.choices["traj_itm_labels"]).long():
        step = LOSSES[mode](model, batch.whole(), itm_labels)
        losses.append([float(loss.detach()) for loss in step])
        rates.append([group["lr"] for group in optimizer.param_groups])
        sum(step).backward()  # type: ignore[union-attr]
        optimizer.step()
        optimizer.zero_grad()
        schedule["scheduler"].step()
    yield "traj_losses", torch.tensor(losses)
    yield "traj_lr", torch.tensor(rates, dtype=torch.float64)
    state = model.state_dict()
    for name in fixture.arrays:
        if name.startswith("after."):
            yield name, state[name.removeprefix("after.")]
    for name in ("after", "after_roundoff"):
        yield (
            f"{name}_abs_sum",
            partial(_sums, fixture, state, f"{name}_rows"),
        )


def _sums(fixture: Fixture, state: dict[str, Tensor], rows: str) -> Tensor:
    keys = list(fixture.key_table())
    return torch.stack([state[keys[row]].double().abs().sum() for row in fixture.inputs[rows]])
