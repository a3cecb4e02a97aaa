"""Grad-CAM's map: the one that the verdict rests on, and by differences how the verdict changes with it."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any, NamedTuple

import pytest
import torch
from torch import Tensor

import vilt.modules.vision_transformer
import vlp.nn.attention
from demo.baselines import BASELINES
from demo.judgement import in_words
from epic_common.consistency import ConsistencyHead
from tests.unit.albef import small as albef_small
from tests.unit.meter import small as meter_small
from tests.unit.vilt import small as vilt_small
from tests.unit.xvlm import small as xvlm_small
from vlp.nn.attention import attention_weights
from vlp.nn.cross_attention import Seen
from vlp.nn.padding import PaddedLayout

STEP = 1e-5
TOKEN = 3


class Case(NamedTuple):
    model: Callable[[], Any]
    batch: dict[str, Any]
    grid: tuple[int, int]
    weights_of: Any  # the module through which the fusion computes the maps that are kept
    width: int
    states: Callable[[Any, dict[str, Any]], Tensor]  # of the batch's text, fused with its image


def inferred(model: Any, batch: dict[str, Any]) -> Tensor:
    return model.infer(batch)["text_feats"]


def fused(model: Any, batch: dict[str, Any]) -> Tensor:
    encoder = model.vision_encoder if hasattr(model, "vision_encoder") else model.visual_encoder
    layout, image = PaddedLayout(batch["text_masks"].bool()), encoder(batch["image"])
    return model.text_encoder.bert(batch["text_ids"], layout, image, Seen())


CASES = {
    "meter": Case(
        meter_small.meter,
        meter_small.batch_of([6]),
        (2, 2),
        vlp.nn.attention,
        meter_small.meter().config["hidden_size"],
        inferred,
    ),
    "vilt": Case(
        vilt_small.vilt,
        vilt_small.batch_of([6]),
        vilt_small.GRID,
        vilt.modules.vision_transformer,
        vilt_small.vilt().config["hidden_size"],
        inferred,
    ),
    "albef": Case(
        albef_small.pretraining,
        albef_small.pretraining_batch([6]),
        (2, 2),
        vlp.nn.attention,
        albef_small.BERT["hidden_size"],
        fused,
    ),
    "xvlm": Case(
        lambda: xvlm_small.pretraining().eval(),
        xvlm_small.pretraining_batch([6]),
        (xvlm_small.SIDE, xvlm_small.SIDE),
        vlp.nn.attention,
        xvlm_small.TEXT["hidden_size"],
        fused,
    ),
}


@pytest.fixture
def case(baseline: str) -> Case:
    return CASES[baseline]


@pytest.fixture
def model(case: Case) -> Any:
    torch.manual_seed(0)  # weights and a head by which some patch speaks for the token
    model = case.model().double()
    model.epic = SimpleNamespace(head=ConsistencyHead(case.width).double())
    torch.nn.init.normal_(model.epic.head.beta.weight)
    return model


def in_double(batch: dict[str, Any]) -> dict[str, Any]:
    image = batch["image"]
    return {**batch, "image": image.double() if isinstance(image, Tensor) else [each.double() for each in image]}


@pytest.mark.parametrize("baseline", BASELINES)
def test_the_map_is_the_one_that_the_verdict_rests_on(
    baseline: str, case: Case, model: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Heat is attention times the positive slope of the token's logit, which small changes of the map give, too."""
    batch, ids = in_double(case.batch), case.batch["text_ids"]
    judge = BASELINES[baseline].judge
    judgement = judge(model, batch, ids)
    rows, columns = case.grid
    patches = rows * columns
    heads, keys = judgement.attention.shape[1], judgement.attention.shape[-1]

    expected = torch.zeros(heads, patches)
    for head in range(heads):
        for patch in range(patches):
            place = (0, head, TOKEN, keys - patches + patch)

            def changed(q: Tensor, k: Tensor, mask: Tensor | None, place: Any = place) -> Tensor:
                weights = attention_weights(q, k, mask)
                change = torch.zeros_like(weights)
                change[place] = STEP
                return weights + change

            monkeypatch.setattr(case.weights_of, "attention_weights", changed)
            slope = (judge(model, batch, ids).logits - judgement.logits)[0, TOKEN] / STEP
            expected[head, patch] = judgement.attention[place] * slope.clamp(min=0)
    heat = torch.from_numpy(judgement.heat(TOKEN))
    assert heat.shape == case.grid and float(heat.max()) > 0
    assert torch.allclose(heat.flatten(), expected.mean(dim=0).float(), rtol=1e-3, atol=1e-7)


@pytest.mark.parametrize("baseline", BASELINES)
def test_keeping_the_map_changes_no_verdict_and_ends_with_it(baseline: str, case: Case, model: Any) -> None:
    batch, ids = in_double(case.batch), case.batch["text_ids"]
    judgement = BASELINES[baseline].judge(model, batch, ids)
    assert torch.allclose(judgement.attention.sum(dim=-1), torch.ones(1, dtype=torch.float64))
    assert torch.allclose(judgement.logits, model.epic.head(case.states(model, batch)), atol=1e-9)
    assert not any(getattr(module, "keep_map", False) for module in model.modules())


@pytest.mark.parametrize(
    ("consistent", "says"),
    [(0.66, "consistent with p = 0.66"), (0.06, "inconsistent with p = 0.94"), (0.5, "consistent with p = 0.50")],
)
def test_a_verdict_is_named_with_its_own_probability(consistent: float, says: str) -> None:
    assert in_words(consistent) == f"D: {says}"
