"""Drawing M: the count, the distribution against sequential draws, and the edge cases."""

from __future__ import annotations

import itertools
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import chisquare
from torch import Tensor

from epic_common.masking import draw_masked, mask_tokens, maskable_positions, masked_places, num_masked
from epic_common.saliency import log_saliency
from tests.unit.epic.tiny import BOS, EOS, MASK, PAD, VOCABULARY, sentences


def rng(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def one_row(count: int, n: int = 64) -> Tensor:
    return (torch.arange(n) < count)[None]


COUNTS = [(0.35, 20, 7), (0.35, 40, 14), (0.35, 1, 1), (0.35, 3, 2), (0.35, 48, 17), (0.1, 30, 3), (0.3, 10, 3)]
EDGES = [(0.0, 20, 0), (1.0, 20, 20), (0.35, 0, 0), (1e-9, 5, 1), (0.07, 100, 7), (0.29, 100, 29)]


@pytest.mark.parametrize(("ratio", "count", "m"), [*COUNTS, *EDGES])
def test_m_is_the_ceiling(ratio: float, count: int, m: int) -> None:
    assert num_masked(one_row(count, 128), ratio).tolist() == [m]


@pytest.mark.parametrize("percent", range(101))
def test_m_is_the_exact_ceiling_of_the_written_ratio(percent: int) -> None:
    lengths = torch.arange(129)
    maskable = torch.arange(128)[None] < lengths[:, None]
    expected = [-(-percent * count // 100) for count in range(129)]  # whole-number arithmetic
    assert num_masked(maskable, float(f"{percent / 100:.2f}")).tolist() == expected


def test_maskable_leaves_out_special_tokens_and_padding() -> None:
    ids, mask = sentences(3, 0)
    special = torch.tensor(VOCABULARY.special_ids)
    assert maskable_positions(ids, mask, special).tolist() == [[False, True, True, True, False], [False] * 5]
    # a word id under padding is no token
    ids[1, 4] = 9
    assert not maskable_positions(ids, mask, special)[1].any()


@given(st.integers(0, 2**31), st.floats(0, 1), st.floats(0.01, 300))
@settings(max_examples=60, deadline=None)
def test_m_positions_are_drawn_and_only_from_the_maskable(seed: int, ratio: float, spread: float) -> None:
    source = rng(seed)
    maskable = torch.rand(5, 13, generator=source) < torch.rand((), generator=source)
    log_alpha = log_saliency(spread * torch.randn(5, 13, generator=source), maskable)
    m = num_masked(maskable, ratio)
    masked = draw_masked(log_alpha, m, source)
    assert not (masked & ~maskable).any()
    assert torch.equal(masked.sum(1), m)
    assert (m <= maskable.sum(1)).all()


def sequential_probability(alpha: list[float], subset: frozenset[int]) -> float:
    """P(M = subset) of draws one after the other without replacement, by enumeration of the orders."""
    total = 0.0
    for order in itertools.permutations(subset):
        probability, left = 1.0, 1.0
        for i in order:
            probability *= alpha[i] / left
            left -= alpha[i]
        total += probability
    return total


@pytest.mark.parametrize("m", [1, 2, 3])
def test_the_draw_is_distributed_as_sequential_sampling_without_replacement(m: int) -> None:
    alpha, draws = [0.55, 0.25, 0.12, 0.08], 40_000
    log_alpha = torch.tensor(alpha).log().expand(draws, 4)
    masked = draw_masked(log_alpha, torch.full((draws,), m), rng(1))
    rows, counts = masked.unique(dim=0, return_counts=True)
    assert len(rows) == math.comb(4, m)
    expected = [draws * sequential_probability(alpha, frozenset(r.nonzero().squeeze(1).tolist())) for r in rows]
    assert sum(expected) == pytest.approx(draws)
    assert chisquare(counts.tolist(), expected).pvalue > 0.001


def test_without_replacement_differs_from_the_most_salient_m() -> None:
    log_alpha = torch.tensor([0.4, 0.3, 0.2, 0.1]).log().expand(2000, 4)
    masked = draw_masked(log_alpha, torch.full((2000,), 2), rng(2))
    assert 0 < masked[:, 3].float().mean() < masked[:, 0].float().mean() < 1


def test_alpha_that_underflows_can_be_drawn_and_zero_cannot() -> None:
    log_alpha = torch.tensor([[0.0, -200.0, -500.0, -torch.inf]]).expand(64, 4)
    assert log_alpha.exp()[0, 1] == 0  # what a draw from probabilities would see
    for m, expected in ((1, [1, 0, 0, 0]), (2, [1, 1, 0, 0]), (3, [1, 1, 1, 0]), (4, [1, 1, 1, 0])):
        masked = draw_masked(log_alpha, torch.full((64,), m), rng(m))
        assert (masked.long() == torch.tensor(expected)).all(), m


def test_rows_have_their_own_m_and_an_empty_row_draws_nothing() -> None:
    log_alpha = torch.zeros(4, 6)
    log_alpha[3] = -torch.inf
    masked = draw_masked(log_alpha, torch.tensor([0, 2, 6, 3]), rng())
    assert masked.sum(1).tolist() == [0, 2, 6, 0]


def test_a_row_that_is_not_a_number_draws_nothing_and_leaves_the_others_their_draws() -> None:
    log_alpha = torch.randn(3, 8, generator=rng()).log_softmax(-1)
    m = torch.full((3,), 4)
    expected = draw_masked(log_alpha, m, rng(1))
    log_alpha[1] = torch.nan
    masked = draw_masked(log_alpha, m, rng(1))
    assert torch.equal(masked[[0, 2]], expected[[0, 2]]) and not masked[1].any()


def test_the_draw_is_a_function_of_the_generator_alone() -> None:
    log_alpha = torch.randn(8, 20, generator=rng()).log_softmax(-1)
    m = torch.full((8,), 5)
    torch.manual_seed(1)
    first = draw_masked(log_alpha, m, rng(3))
    torch.manual_seed(2)
    assert torch.equal(first, draw_masked(log_alpha, m, rng(3)))
    assert not torch.equal(first, draw_masked(log_alpha, m, rng(4)))


def test_every_masked_token_becomes_the_mask_token() -> None:
    ids = torch.tensor([[BOS, 7, 8, 9, EOS, PAD]])
    masked = torch.tensor([[False, True, False, True, False, False]])
    assert mask_tokens(ids, masked, MASK).tolist() == [[BOS, MASK, 8, MASK, EOS, PAD]]


@given(st.lists(st.lists(st.booleans(), min_size=6, max_size=6), min_size=1, max_size=4), st.integers(0, 3))
def test_places_of_a_known_number_are_the_places(rows: list[list[bool]], more: int) -> None:
    """Row after row; where more were counted than there are, the rest are said not to be masked."""
    masked = torch.tensor(rows)
    expected = [6 * i + j for i, row in enumerate(rows) for j, value in enumerate(row) if value]
    places, real = masked_places(masked)
    assert places.tolist() == expected and real.all()
    count = min(len(expected) + more, masked.numel())
    places, real = masked_places(masked, count)
    assert places.tolist()[: len(expected)] == expected and len(set(places.tolist())) == count
    assert real.tolist() == [i < len(expected) for i in range(count)]
