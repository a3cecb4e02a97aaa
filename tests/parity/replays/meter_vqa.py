"""METER's VQAv2 logits, loss and soft score (docs/official/meter.md §7.2)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F

from meter.modules.meter_module import METERTransformerSS
from tests.parity.replays import PLAIN, TRAINING_PATH, Fixture, Given, Outputs, replay
from tests.parity.replays.filling import built_outputs
from tests.parity.replays.meter_models import batch_of, described_pass, filled_model, pooled
from vlp.sacred_dialect.task_metrics import soft_score


@replay("meter", "vqa", modes=(PLAIN, TRAINING_PATH))
@torch.no_grad()
def vqa(fixture: Fixture, mode: str) -> Outputs:
    model, batch = filled_model(fixture), batch_of(fixture, "image")
    yield from built_outputs(fixture, model)
    yield from (_plain if mode == PLAIN else _training)(fixture, model, batch)


def _targets(fixture: Fixture) -> list[np.ndarray]:
    return [fixture.inputs[f"vqa_targets_{part}"] for part in ("nonzero", "value")]


def _plain(fixture: Fixture, model: METERTransformerSS, batch: Given) -> Outputs:
    result, outputs = described_pass(model, "last", batch, batch["image"][0])
    yield from outputs
    yield "cls_feats", result["cls_feats"]
    logits = model.vqa_classifier(result["cls_feats"])
    yield "vqa_logits", logits
    where, values = _targets(fixture)
    targets = torch.zeros_like(logits)
    targets[where[:, 0], where[:, 1]] = torch.from_numpy(values).to(targets)
    yield "vqa_loss", F.binary_cross_entropy_with_logits(logits, targets) * logits.shape[1]
    yield "vqa_score", sum(targets[row, best] for row, best in enumerate(logits.argmax(dim=1)))  # type: ignore[misc]


def _training(fixture: Fixture, model: METERTransformerSS, batch: Given) -> Outputs:
    yield "cls_feats", pooled(model, batch)
    where, values = _targets(fixture)

    def of_each_sample(column: np.ndarray) -> list[Sequence[float]]:
        return [column[where[:, 0] == row].tolist() for row in range(len(batch["text_ids"]))]

    answers = {"vqa_labels": of_each_sample(where[:, 1]), "vqa_scores": of_each_sample(values)}
    outputs = model(batch.whole().also(**answers))
    yield "vqa_logits", outputs["vqa_logits"]
    yield "vqa_loss", outputs["vqa_loss"]
    yield "vqa_score", soft_score(outputs["vqa_logits"], outputs["vqa_labels"]) * len(batch["text_ids"])
