"""Word-patch alignment against loops over numbers, exact transport, and what must not matter.

Source: docs/official/vilt.md §5, step 4.
"""

from __future__ import annotations

import itertools
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from vilt.modules.word_patch_alignment import (
    aligned_patches,
    aligned_words,
    alignment_loss,
    cost_matrix,
    transport_distance,
    transport_plan,
)

WIDTH = 6


def states(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, WIDTH, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def mask_of(counts: list[int], size: int) -> Tensor:
    return torch.arange(size) < torch.tensor(counts)[:, None]


def looped_plan(cost: list[list[float]], beta: float = 0.5, iterations: int = 50) -> list[list[float]]:
    """IPOT of docs/official/vilt.md §5, step 4, for a pair without padding: cost[word][patch] -> plan[patch][word]."""
    n, m = len(cost), len(cost[0])
    plan = [[1.0] * n for _ in range(m)]
    sigma = [1 / n] * n
    for _ in range(iterations):
        q = [[math.exp(-cost[i][j] / beta) * plan[j][i] for i in range(n)] for j in range(m)]
        delta = [1 / (m * sum(q[j][i] * sigma[i] for i in range(n))) for j in range(m)]
        sigma = [1 / (n * sum(delta[j] * q[j][i] for j in range(m))) for i in range(n)]
        plan = [[delta[j] * q[j][i] * sigma[i] for i in range(n)] for j in range(m)]
    return plan


def cosine_costs(words: Tensor, patches: Tensor) -> list[list[float]]:
    def cosine(a: list[float], b: list[float]) -> float:
        return sum(x * y for x, y in zip(a, b, strict=True)) / math.hypot(*a) / math.hypot(*b)

    return [[1 - cosine(word, patch) for patch in patches.tolist()] for word in words.tolist()]


COUNTS = st.lists(st.tuples(st.integers(1, 5), st.integers(1, 7)), min_size=1, max_size=3)


@settings(max_examples=15, deadline=None)
@given(COUNTS, st.integers(0, 3), st.integers(0, 99))
def test_plan_and_distance_are_those_of_the_loops(counts: list[tuple[int, int]], padding: int, seed: int) -> None:
    """Row by row as if alone: neither padding nor its neighbours change a pair."""
    word_counts, patch_counts = ([pair[i] for pair in counts] for i in range(2))
    word_mask, patch_mask = (mask_of(c, max(c) + padding) for c in (word_counts, patch_counts))
    words, patches = states(*word_mask.shape, seed=seed), states(*patch_mask.shape, seed=seed + 100)
    cost = cost_matrix(words, word_mask, patches, patch_mask)
    plan = transport_plan(cost, word_mask, patch_mask)
    distances = transport_distance(cost, plan)
    for b, (n, m) in enumerate(counts):
        costs = cosine_costs(words[b, :n], patches[b, :m])
        expected = looped_plan(costs)
        assert torch.allclose(cost[b, :n, :m], torch.tensor(costs, dtype=torch.float64), atol=1e-12)
        assert torch.allclose(plan[b, :m, :n], torch.tensor(expected, dtype=torch.float64), atol=1e-10)
        distance = sum(costs[i][j] * expected[j][i] for i in range(n) for j in range(m))
        assert distances[b].item() == pytest.approx(distance, abs=1e-10)
    assert (cost.masked_fill(word_mask[:, :, None] & patch_mask[:, None, :], 0) == 0).all()
    assert (plan.masked_fill(patch_mask[:, :, None] & word_mask[:, None, :], 0) == 0).all()


@given(COUNTS, st.integers(0, 99))
def test_a_plan_carries_every_word_whole(counts: list[tuple[int, int]], seed: int) -> None:
    """Not negative, 1/n from each of n words, 1 in all."""
    word_counts, patch_counts = ([pair[i] for pair in counts] for i in range(2))
    word_mask, patch_mask = mask_of(word_counts, 6), mask_of(patch_counts, 8)
    cost = cost_matrix(states(*word_mask.shape, seed=seed), word_mask, states(*patch_mask.shape, seed=1), patch_mask)
    plan = transport_plan(cost, word_mask, patch_mask)
    assert (plan >= 0).all()
    assert torch.allclose(plan.sum(dim=1), word_mask.double() / word_mask.sum(dim=1, keepdim=True), atol=1e-9)
    assert torch.allclose(plan.sum(dim=(1, 2)), torch.ones(len(counts), dtype=torch.float64))


@pytest.mark.parametrize("seed", range(4))
def test_with_iterations_the_plan_becomes_the_best_transport(seed: int) -> None:
    """As many words as patches: the best transport is the best of all one-to-one assignments."""
    n = 4
    mask = mask_of([n], n)
    cost = cost_matrix(states(1, n, seed=seed), mask, states(1, n, seed=seed + 50), mask)
    plan = transport_plan(cost, mask, mask, iterations=3000)
    assert torch.allclose(plan.sum(dim=2), torch.full((1, n), 1 / n, dtype=torch.float64), atol=1e-6)
    best = min(
        sum(cost[0, word, patch].item() for word, patch in enumerate(places)) / n
        for places in itertools.permutations(range(n))
    )
    assert transport_distance(cost, plan).item() == pytest.approx(best, abs=1e-3)


def test_what_is_aligned() -> None:
    """Words but [CLS] and the last token, [SEP]; patches but the class token."""
    text = torch.tensor([[1, 1, 1, 1, 0], [1, 1, 0, 0, 0], [1, 1, 1, 1, 1]])
    assert aligned_words(text).int().tolist() == [[0, 1, 1, 0, 0], [0, 0, 0, 0, 0], [0, 1, 1, 1, 0]]
    assert aligned_patches(torch.tensor([[True, True, False]])).tolist() == [[False, True, False]]


def test_the_loss_pulls_matched_pairs_and_pushes_others() -> None:
    words, patches = states(3, 4), states(3, 5, seed=1)
    word_mask, patch_mask = mask_of([4, 2, 3], 4), mask_of([5, 3, 1], 5)
    cost = cost_matrix(words.float(), word_mask, patches.float(), patch_mask)
    d = transport_distance(cost, transport_plan(cost, word_mask, patch_mask))
    loss = alignment_loss(words, word_mask, patches, patch_mask, torch.tensor([1, 0, 1]))
    assert loss.item() == pytest.approx(0.1 * (d[0] - d[1] + d[2]).item() / 3)


def test_the_plan_is_constant_to_the_gradient() -> None:
    mask = mask_of([3], 3)
    cost = torch.rand(1, 3, 3, dtype=torch.float64).requires_grad_()
    plan = transport_plan(cost, mask, mask)
    assert not plan.requires_grad
    transport_distance(cost, plan).sum().backward()
    assert cost.grad is not None and torch.equal(cost.grad, plan.transpose(1, 2))


@pytest.mark.parametrize("counts", [[0, 2], [0, 0]])
def test_a_caption_without_words_costs_nothing(counts: list[int]) -> None:
    words, patches = states(2, 3).requires_grad_(), states(2, 4, seed=1).requires_grad_()
    word_mask, patch_mask = mask_of(counts, 3), mask_of([4, 3], 4)
    loss = alignment_loss(words, word_mask, patches, patch_mask, torch.tensor([1, 1]))
    loss.backward()
    cost = cost_matrix(words, word_mask, patches, patch_mask)
    assert transport_distance(cost, transport_plan(cost, word_mask, patch_mask))[0] == 0
    assert torch.isfinite(loss) and words.grad is not None and patches.grad is not None
    assert torch.isfinite(words.grad).all() and torch.isfinite(patches.grad).all()
    assert (words.grad[0] == 0).all() and (patches.grad[0] == 0).all()


def test_autocast_does_not_reach_it() -> None:
    words, patches = states(2, 3).float(), states(2, 4, seed=1).float()
    masks = mask_of([3, 2], 3), mask_of([4, 3], 4)
    full = alignment_loss(words, masks[0], patches, masks[1], torch.tensor([1, 0]))
    with torch.autocast("cpu", torch.bfloat16):
        cast = alignment_loss(words, masks[0], patches, masks[1], torch.tensor([1, 0]))
    assert torch.equal(full, cast)
