"""METER's official step and its naive teacher by a closed formula."""

from __future__ import annotations

import pytest

from benchmarks.meter_step import MeterSteps
from tests.unit.benchmarks.products import BOTH, FORWARD, NO_PIXELS, attention, flops_by_part, linear
from tests.unit.benchmarks.products import block as self_attending

# The tiny METER: 64 px in patches of 16 and a class token, 30 tokens, width 128, MLP 512, 1000 words.
PIXELS, PATCH, N, D, MLP, VOCAB = 64, 16, 30, 128, 512, 1000
P = (PIXELS // PATCH) ** 2 + 1
VIT, TEXT, FUSION = 4, 2, 3  # layers


def block(rows: int, context: int | None = None) -> int:
    """Self-attention, cross-attention to ``context`` rows if given, and the MLP."""
    flops = self_attending(rows, D, MLP)
    if context is not None:
        flops += 2 * linear(rows, D, D) + 2 * linear(context, D, D) + attention(rows, context, D)
    return flops


def official_step() -> int:
    """FLOPs of one pair: an MLM pass and an ITM pass, forward and backward, everything computed at all positions."""
    patches = linear(P - 1, 3 * PATCH * PATCH, D)
    unread = linear(1, D, D)  # the text encoder's own pooler
    encoders = BOTH * (VIT * block(P) + TEXT * block(N)) + NO_PIXELS * patches + unread
    transforms = BOTH * (linear(N, D, D) + linear(P, D, D))
    all_but_last = BOTH * (FUSION - 1) * (block(N, P) + block(P, N))
    text_last, image_last, poolers = block(N, P), block(P, N), 2 * linear(1, D, D)
    mlm_head, itm_head = linear(N, D, D) + linear(N, D, VOCAB), linear(1, 2 * D, 2)
    # MLM reads neither the last image layer nor the poolers: they have no backward there.
    mlm = BOTH * (text_last + mlm_head) + FORWARD * (image_last + poolers)
    itm = BOTH * (text_last + image_last + poolers + itm_head)
    return 2 * (encoders + transforms + all_but_last) + mlm + itm


def teacher_forward() -> int:
    patches = linear(P - 1, 3 * PATCH * PATCH, D)
    encoders = VIT * block(P) + TEXT * block(N) + patches + linear(N, D, D) + linear(P, D, D)
    return encoders + FUSION * (block(N, P) + block(P, N)) + 3 * linear(1, D, D)


@pytest.fixture(scope="module")
def steps() -> MeterSteps:
    return MeterSteps("tiny")


@pytest.mark.parametrize("lengths", [[N, N], [5, 12]], ids=["full", "padded"])
def test_the_official_step_costs_what_its_shapes_say(steps: MeterSteps, lengths: list[int]) -> None:
    """At any length: the official code computes its padding."""
    assert sum(flops_by_part(steps, "vanilla_official", lengths).values()) == len(lengths) * official_step()


def test_the_naive_teacher_runs_its_whole_forward(steps: MeterSteps) -> None:
    assert flops_by_part(steps, "epic_naive", [5, 12])["teacher"] == 2 * teacher_forward()
