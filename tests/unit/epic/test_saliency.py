"""Eq. 8 against its formula, the golden scores of METER, and its edge cases."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from epic_common.finite import zero_or_nan
from epic_common.saliency import log_saliency, saliency_entropy, saliency_scores, uniform_log_alpha

GOLDEN = Path(__file__).parents[2] / "parity" / "fixtures" / "meter"


def test_scores_are_the_mean_over_heads_of_the_raw_inner_products() -> None:
    rng = torch.Generator().manual_seed(0)
    q, k = torch.randn(3, 4, 5, generator=rng), torch.randn(3, 4, 7, 5, generator=rng)
    expected = torch.zeros(3, 7)
    for b in range(3):
        for i in range(7):
            for head in range(4):
                expected[b, i] += sum(q[b, head, d] * k[b, head, i, d] for d in range(5)) / 4
    torch.testing.assert_close(saliency_scores(q, k), expected)


def test_it_is_not_the_mean_of_per_head_softmaxes() -> None:
    q = torch.tensor([[[4.0], [0.0]]])
    k = torch.tensor([[[[1.0], [0.0]], [[0.0], [1.0]]]])
    alpha = log_saliency(saliency_scores(q, k), torch.ones(1, 2, dtype=torch.bool)).exp()
    torch.testing.assert_close(alpha, torch.tensor([[2.0, 0.0]]).softmax(-1))
    per_head = torch.einsum("bhd,bhnd->bhn", q, k).softmax(-1).mean(1)
    assert not torch.allclose(alpha, per_head, atol=0.05)


@pytest.mark.parametrize("name", ["golden_tiny_pretrain", "golden_tiny_pretrain_swin", "golden_pretrain"])
def test_alpha_of_the_golden_scores(name: str) -> None:
    arrays = np.load(GOLDEN / f"{name}.npz")
    attended = torch.from_numpy(arrays["clean.saliency_alpha_masked"] > 0)
    alpha = log_saliency(torch.from_numpy(arrays["clean.saliency_score"]), attended).exp()
    torch.testing.assert_close(alpha, torch.from_numpy(arrays["clean.saliency_alpha_masked"]), rtol=1e-5, atol=1e-7)


@given(st.integers(0, 2**31), st.floats(0.05, 20.0))
@settings(max_examples=100, deadline=None)
def test_alpha_is_a_distribution_over_the_maskable_tokens(seed: int, temperature: float) -> None:
    rng = torch.Generator().manual_seed(seed)
    scores = 50 * torch.randn(4, 9, generator=rng)
    maskable = torch.rand(4, 9, generator=rng) < 0.5
    alpha = log_saliency(scores, maskable, temperature).exp()
    assert (alpha[~maskable] == 0).all()
    torch.testing.assert_close(alpha.sum(1), maskable.any(1).float())
    for b in range(4):
        weights = [math.exp((s - scores[b].max().item()) / temperature) for s in scores[b].tolist()]
        total = sum(w for w, ok in zip(weights, maskable[b].tolist(), strict=True) if ok)
        for i in range(9):
            if maskable[b, i] and total > 1e-30:
                assert alpha[b, i].item() == pytest.approx(weights[i] / total, rel=2e-3, abs=1e-6)


def test_a_sentence_with_nothing_to_mask_gives_no_nan() -> None:
    log_alpha = log_saliency(torch.randn(2, 3), torch.tensor([[False] * 3, [True, False, True]]))
    assert (log_alpha[0] == -torch.inf).all() and log_alpha[1, [0, 2]].isfinite().all()
    assert saliency_entropy(log_alpha)[0] == 0


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_a_score_that_is_not_finite_spoils_its_sentence_alone_and_only_where_it_counts(value: float) -> None:
    scores = torch.tensor([[0.0, 1.0, value], [0.0, 1.0, 2.0]])
    maskable = torch.tensor([[True, True, False], [False, True, True]])
    elsewhere = log_saliency(scores, maskable)
    assert elsewhere[maskable].isfinite().all() and (elsewhere[~maskable] == -torch.inf).all()
    maskable[0, 2] = True
    spoilt = log_saliency(scores, maskable)
    assert spoilt[0].isnan().all() and torch.equal(spoilt[1], elsewhere[1])
    maskable[0, 0] = False
    assert log_saliency(scores, maskable)[0, 0] == -torch.inf


def test_the_host_waits_for_no_score() -> None:
    """On the meta device there is nothing that it could read."""
    scores, maskable = torch.zeros(2, 3, device="meta"), torch.ones(2, 3, dtype=torch.bool, device="meta")
    assert zero_or_nan(~log_saliency(scores, maskable).isnan().any()).device.type == "meta"


def test_the_temperature_divides_the_scores() -> None:
    scores, everything = torch.tensor([[8.0, 0.0]]), torch.ones(1, 2, dtype=torch.bool)
    torch.testing.assert_close(log_saliency(scores, everything, 8.0).exp(), torch.tensor([[1.0, 0.0]]).softmax(-1))


def test_uniform_masking_and_entropy() -> None:
    maskable = torch.tensor([[True, True, True, True, False], [True, False, False, False, False]])
    log_alpha = uniform_log_alpha(maskable)
    torch.testing.assert_close(log_alpha.exp()[0, :4], torch.full((4,), 0.25))
    torch.testing.assert_close(saliency_entropy(log_alpha), torch.tensor([math.log(4), 0.0]))


def test_scores_are_float32_under_autocast() -> None:
    rng = torch.Generator().manual_seed(0)
    q, k = torch.randn(2, 4, 16, generator=rng), torch.randn(2, 4, 6, 16, generator=rng)
    expected = saliency_scores(q, k)
    with torch.autocast("cpu", torch.bfloat16):
        scores = saliency_scores(q, k)
    assert scores.dtype == torch.float32 and torch.equal(scores, expected)
