"""METER's NLVR2 logits and loss: one statement, two images (docs/official/meter.md §7.3)."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor

from tests.parity.replays import PLAIN, TRAINING_PATH, Fixture, Outputs, once, piece, replay
from tests.parity.replays.filling import built_outputs
from tests.parity.replays.meter_models import batch_of, described_pass, filled_model, pooled

Described = tuple[dict[str, Tensor], list[tuple[str, Tensor]]]


@replay("meter", "nlvr2", modes=(PLAIN, TRAINING_PATH))
@torch.no_grad()
def nlvr2(fixture: Fixture, mode: str) -> Outputs:
    model, batch = filled_model(fixture), batch_of(fixture, "image_0", "image_1")
    labels = once(lambda: torch.from_numpy(fixture.inputs["answers"]).long())
    yield from built_outputs(fixture, model)
    if mode == TRAINING_PATH:
        for i in range(2):
            yield f"cls_feats_{i + 1}", partial(pooled, model, batch, f"image_{i}", token_type=i + 1)
        yield from model(batch.whole().also(answers=labels().bool().tolist())).items()
        return

    def described(i: int) -> Described:
        return described_pass(model, ("first", "last")[i], batch, batch[f"image_{i}"][0], token_type=i + 1)

    passes = [once(partial(described, i)) for i in range(2)]
    yield from _states(passes[1])
    for i, each in enumerate(passes, 1):
        yield f"cls_feats_{i}", partial(_features, each)
    logits = model.nlvr2_classifier(torch.cat([_features(each) for each in passes], dim=1))
    yield "nlvr2_logits", logits
    yield "nlvr2_loss", lambda: F.cross_entropy(logits, labels())


@piece
def _states(described: Callable[[], Described]) -> Outputs:
    yield from described()[1]


def _features(described: Callable[[], Described]) -> Tensor:
    return described()[0]["cls_feats"]
