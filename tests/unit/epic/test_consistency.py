"""Eq. 1 and 2 against their formulas, and their numerical promises."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from epic_common.consistency import ConsistencyHead, itc_loss


def example(seed: int = 0, b: int = 3, n: int = 7) -> tuple[Tensor, Tensor, Tensor]:
    """Logits, T and valid tokens; T lies within the valid ones."""
    rng = torch.Generator().manual_seed(seed)
    valid = torch.rand(b, n, generator=rng) < 0.7
    replaced = (torch.rand(b, n, generator=rng) < 0.3) & valid
    return 3 * torch.randn(b, n, generator=rng), replaced, valid


def brute_force(logits: Tensor, replaced: Tensor, valid: Tensor) -> tuple[float, int]:
    """Eq. 2's sum over the batch, and the number of its terms."""
    total, terms = 0.0, 0
    for b in range(len(logits)):
        for i in range(logits.shape[1]):
            if valid[b, i]:
                d = 1 / (1 + math.exp(-float(logits[b, i])))
                total -= math.log(1 - d) if replaced[b, i] else math.log(d)
                terms += 1
    return total, terms


@given(st.integers(0, 2**31))
@settings(max_examples=50, deadline=None)
def test_the_loss_is_equation_2(seed: int) -> None:
    logits, replaced, valid = example(seed)
    total, terms = brute_force(logits, replaced, valid)
    mean = itc_loss(logits, replaced, valid, "mean_tokens")
    assert mean.item() == pytest.approx(total / max(terms, 1), rel=1e-4, abs=1e-6)
    summed = itc_loss(logits, replaced, valid, "sum_per_sentence")
    assert summed.item() == pytest.approx(total / 3, rel=1e-4, abs=1e-6)


def test_d_is_the_probability_of_consistent() -> None:
    everything = torch.ones(1, 2, dtype=torch.bool)
    sure = torch.tensor([[9.0, -9.0]])
    assert itc_loss(sure, torch.tensor([[False, True]]), everything) < 1e-3
    assert itc_loss(sure, torch.tensor([[True, False]]), everything) > 8


def test_no_valid_token_gives_zero_with_a_graph() -> None:
    logits = torch.randn(2, 4, requires_grad=True)
    nothing = torch.zeros(2, 4, dtype=torch.bool)
    for reduction in ("mean_tokens", "sum_per_sentence"):
        loss = itc_loss(logits, nothing, nothing, reduction)
        assert loss == 0
        (gradient,) = torch.autograd.grad(loss, logits)
        assert (gradient == 0).all()


def test_what_stands_under_padding_does_not_matter_even_if_it_is_not_finite() -> None:
    logits, replaced, valid = example()
    expected = itc_loss(logits, replaced, valid)
    dirty = torch.where(valid, logits, float("nan")).requires_grad_()
    loss = itc_loss(dirty, replaced, valid)
    torch.testing.assert_close(loss, expected)
    (gradient,) = torch.autograd.grad(loss, dirty)
    assert gradient.isfinite().all() and (gradient[~valid] == 0).all() and (gradient[valid] != 0).all()


@pytest.mark.parametrize("size", [60.0, 300.0])
def test_extreme_logits_stay_finite(size: float) -> None:
    logits, replaced = torch.tensor([[size, -size]]), torch.tensor([[True, False]])
    assert itc_loss(logits, replaced, torch.ones(1, 2, dtype=torch.bool)).item() == pytest.approx(size)


def test_the_loss_is_float32_under_autocast() -> None:
    logits, replaced, valid = example()
    half = logits.bfloat16()
    with torch.autocast("cpu", torch.bfloat16):
        loss = itc_loss(half, replaced, valid)
    assert loss.dtype == torch.float32
    assert loss == itc_loss(half.float(), replaced, valid)


def test_an_unknown_reduction_is_refused() -> None:
    with pytest.raises(ValueError, match="reduction"):
        itc_loss(*example(), reduction="sum")


def test_the_head_is_one_weight_vector() -> None:
    head = ConsistencyHead(6)
    assert [(name, tuple(p.shape)) for name, p in head.named_parameters()] == [
        ("beta.weight", (1, 6)),
        ("beta.bias", (1,)),
    ]
    states = torch.randn(2, 4, 6)
    expected = (states * head.beta.weight[0]).sum(-1) + head.beta.bias
    torch.testing.assert_close(head(states), expected)
    assert [name for name, _ in ConsistencyHead(6, bias=False).named_parameters()] == ["beta.weight"]


def test_the_dense_head_has_one_more_layer() -> None:
    head = ConsistencyHead(6, dense=True)
    assert head.dense is not None
    states = torch.randn(2, 4, 6)
    hidden = torch.nn.functional.gelu(head.dense(states))
    torch.testing.assert_close(head(states), head.beta(hidden).squeeze(-1))


def test_the_head_starts_as_the_baselines_heads_do() -> None:
    """Weights from N(0, 0.02), biases 0."""
    torch.manual_seed(0)
    head = ConsistencyHead(768, dense=True)
    assert head.dense is not None
    for layer in (head.dense, head.beta):
        assert layer.weight.std().item() == pytest.approx(0.02, rel=0.1)
        assert not layer.bias.any()
