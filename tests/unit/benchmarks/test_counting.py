"""Skipping the products changes no count, and each goes to the part that asked for it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.baseline import Steps
from benchmarks.counting import OTHER, count_flops
from benchmarks.lengths import TABLE, caption_lengths
from benchmarks.step import BASELINES

LENGTHS = [7, 30, 12, 18]


EVERY_STEP = [(baseline, name) for baseline, steps in BASELINES.items() for name in steps.variants]


@pytest.fixture(scope="module")
def steps(request: pytest.FixtureRequest) -> Steps:
    return BASELINES[request.param]("tiny")


@pytest.mark.parametrize(("steps", "name"), EVERY_STEP, indirect=["steps"])
def test_the_count_is_that_of_the_step_that_is_computed(steps: Steps, name: str) -> None:
    variant, batch = steps.variant(name), steps.batch(LENGTHS)
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as real:
        variant.step(batch).backward()
    assert sum(count_flops(lambda: variant.step(batch), variant.parts).values()) == real.get_total_flops()


class TwoUses(nn.Module):
    """A linear map used twice, with another one and a bare product between."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(4, 4), nn.Linear(4, 4)

    def forward(self, x: Tensor) -> Tensor:
        y = self.second(self.first(x))
        return (self.first(y) @ y.T).sum()


def test_forward_and_backward_go_to_the_part_that_asked() -> None:
    model = TwoUses()
    flops = count_flops(lambda: model(torch.randn(3, 4)), {"a": [model.first], "b": [model.second]})
    linear, product = 2 * 3 * 4 * 4, 2 * 3 * 4 * 3
    # The very first one needs no gradient of its input.
    assert flops == {"a": 2 * linear + 3 * linear, "b": 3 * linear, OTHER: 3 * product}


def test_dropout_and_frozen_parts_count_their_forward_alone() -> None:
    frozen, trained = nn.Linear(4, 4).requires_grad_(False), nn.Sequential(nn.Linear(4, 4), nn.Dropout(0.5))
    flops = count_flops(lambda: trained(frozen(torch.randn(3, 4))).sum(), {"frozen": [frozen], "trained": [trained]})
    assert flops == {"frozen": 2 * 3 * 4 * 4, "trained": 2 * (2 * 3 * 4 * 4)}


@pytest.mark.parametrize("family", ["roberta", "bert"])
@pytest.mark.parametrize("count", [1, 2, 3, 8, 32, 1000])
def test_lengths_stand_for_the_distribution(family: str, count: int) -> None:
    shares = {int(length): share for length, share in json.loads(Path(TABLE).read_text())[family].items()}
    mean = sum(length * share for length, share in shares.items()) / sum(shares.values())
    lengths = caption_lengths(family, count)
    assert len(lengths) == count and lengths == sorted(lengths)
    assert abs(sum(lengths) - count * mean) <= 0.51
    assert min(shares) <= lengths[0] and lengths[-1] <= max(shares)
    if count == 1000:
        below = share_below(lengths, 23), share_below([*shares], 23, [*shares.values()])
        assert below[0] == pytest.approx(below[1], abs=0.01)


def share_below(lengths: Sequence[int], limit: int, weights: Sequence[float] | None = None) -> float:
    weights = weights or [1.0] * len(lengths)
    return sum(w for n, w in zip(lengths, weights, strict=True) if n < limit) / sum(weights)
