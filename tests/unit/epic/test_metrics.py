"""The metrics against plain counting, over batches and over ranks."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from epic_common.corruption import Corruption
from epic_common.metrics import EpicMetrics, auroc


def example(seed: int, b: int = 4, n: int = 9, correct: bool = True) -> tuple[Tensor, Corruption]:
    rng = torch.Generator().manual_seed(seed)
    valid = torch.rand(b, n, generator=rng) < 0.8
    masked = (torch.rand(b, n, generator=rng) < 0.4) & valid
    replaced = (torch.rand(b, n, generator=rng) < 0.7) & masked
    log_alpha = torch.randn(b, n, generator=rng).masked_fill(~valid, -torch.inf).log_softmax(-1)
    hits = torch.rand(int(masked.sum()), generator=rng) < 0.5
    logits = 4 * torch.randn(b, n, generator=rng) - 2 * replaced
    ids = torch.zeros(b, n, dtype=torch.long)
    corruption = Corruption(ids, masked, replaced, valid, log_alpha, torch.zeros(()), hits if correct else None)
    return logits, corruption


def pairwise_auroc(scores: list[float], positive: list[bool]) -> float:
    won = [
        1.0 if s > t else 0.5 if s == t else 0.0
        for s, p in zip(scores, positive, strict=True)
        for t, q in zip(scores, positive, strict=True)
        if p and not q
    ]
    return sum(won) / len(won)


def plain(batches: list[tuple[Tensor, Corruption]]) -> dict[str, float]:
    """Every metric by loops over tokens."""
    tokens = [
        (float(logits[b, i]), bool(c.replaced[b, i]))
        for logits, c in batches
        for b in range(len(logits))
        for i in range(logits.shape[1])
        if c.valid[b, i]
    ]
    tp = sum(x < 0 and t for x, t in tokens)
    fp = sum(x < 0 and not t for x, t in tokens)
    fn = sum(x >= 0 and t for x, t in tokens)
    masked = sum(int(c.masked.sum()) for _, c in batches)
    entropies = [
        -sum(math.exp(a) * a for a in row if a > -math.inf)
        for _, c in batches
        for row in c.log_alpha.tolist()
        if max(row) > -math.inf
    ]
    hits = [c.generator_correct for _, c in batches if c.generator_correct is not None]
    return {
        "epic_itc_accuracy": sum((x < 0) == t for x, t in tokens) / len(tokens),
        "epic_itc_precision": tp / (tp + fp),
        "epic_itc_recall": tp / (tp + fn),
        "epic_itc_f1": 2 * tp / (2 * tp + fp + fn),
        "epic_itc_auroc": pairwise_auroc([-x for x, _ in tokens], [t for _, t in tokens]),
        "epic_replaced_share": sum(int(c.replaced.sum()) for _, c in batches) / masked,
        "epic_masked_share": masked / sum(int((c.log_alpha > -torch.inf).sum()) for _, c in batches),
        "epic_generator_accuracy": torch.cat(hits).float().mean().item(),
        "epic_saliency_entropy": sum(entropies) / len(entropies),
    }


@given(st.integers(0, 2**31))
@settings(max_examples=15, deadline=None)
def test_the_streamed_values_equal_counting_everything(seed: int) -> None:
    batches = [example(seed + i) for i in range(3)]
    metrics = EpicMetrics()
    for logits, corruption in batches:
        metrics.update(logits, corruption, torch.tensor(0.5), torch.tensor(2.0))
    values = metrics.compute()
    expected = plain(batches)
    assert values.pop("epic_itc") == 0.5 and values.pop("epic_gen") == 2.0
    assert values == pytest.approx(expected, rel=1e-5, abs=2e-3)  # the histogram's bins limit the AUROC alone
    del values["epic_itc_auroc"], expected["epic_itc_auroc"]
    assert values == pytest.approx(expected, rel=1e-5)


@given(st.lists(st.tuples(st.integers(-3, 3), st.booleans()), min_size=1, max_size=30))
@settings(deadline=None)
def test_auroc_is_the_share_of_pairs_in_the_right_order(tokens: list[tuple[int, bool]]) -> None:
    scores, positive = torch.tensor([float(s) for s, _ in tokens]), torch.tensor([p for _, p in tokens])
    if positive.all() or not positive.any():
        assert math.isnan(auroc(scores, positive))
    else:
        assert auroc(scores, positive) == pytest.approx(pairwise_auroc(scores.tolist(), positive.tolist()))


def test_the_streamed_auroc_stays_within_its_documented_error() -> None:
    rng = torch.Generator().manual_seed(0)
    replaced = torch.rand(1, 6000, generator=rng) < 0.2
    logits = 2 * torch.randn(1, 6000, generator=rng) - replaced.float()
    valid = torch.ones_like(replaced)
    corruption = Corruption(replaced.long(), replaced, replaced, valid, torch.zeros(1, 6000), torch.zeros(()), None)
    metrics = EpicMetrics()
    metrics.update(logits, corruption, torch.zeros(()))
    bins = (logits[0] * 128).floor()
    same_bin = (bins[replaced[0]][:, None] == bins[~replaced[0]][None]).float().mean().item()
    assert abs(metrics.compute()["epic_itc_auroc"] - auroc(-logits[0], replaced[0])) <= same_bin / 2
    assert same_bin < 0.005


def test_a_head_that_says_the_same_of_every_token_has_an_auroc_of_one_half() -> None:
    _, corruption = example(0)
    metrics = EpicMetrics()
    metrics.update(torch.full((4, 9), 0.3), corruption, torch.zeros(()))
    assert metrics.compute()["epic_itc_auroc"] == 0.5


def test_an_undecided_head_calls_no_token_replaced() -> None:
    """D_i = 1/2 at logit 0."""
    _, corruption = example(0)
    metrics = EpicMetrics()
    metrics.update(torch.zeros(4, 9), corruption, torch.zeros(()))
    values = metrics.compute()
    assert values["epic_itc_recall"] == 0 and "epic_itc_precision" not in values


def test_the_share_of_masked_tokens_on_salient_words() -> None:
    metrics = EpicMetrics()
    _, corruption = example(0)
    salient = torch.rand(4, 9, generator=torch.Generator().manual_seed(5)) < 0.5
    metrics.update(torch.zeros(4, 9), corruption, torch.zeros(()), salient=salient)
    metrics.update(torch.zeros(4, 9), corruption, torch.zeros(()))  # without ground truth: not counted
    values = metrics.compute()
    assert values["epic_masked_salient_share"] == pytest.approx(salient[corruption.masked].float().mean().item())
    assert values["epic_salient_share"] == pytest.approx(
        salient[corruption.log_alpha > -torch.inf].float().mean().item()
    )


def test_values_without_data_are_left_out() -> None:
    metrics = EpicMetrics()
    assert metrics.compute() == {}
    logits, corruption = example(0, correct=False)
    metrics.update(logits, corruption, torch.ones(()))
    assert {"epic_gen", "epic_generator_accuracy", "epic_salient_share"}.isdisjoint(metrics.compute())
    metrics.reset()
    assert metrics.compute() == {}


def test_a_batch_without_valid_tokens_adds_nothing_but_its_loss() -> None:
    nothing = torch.zeros(2, 3, dtype=torch.bool)
    corruption = Corruption(
        nothing.long(), nothing, nothing, nothing, torch.full((2, 3), -torch.inf), torch.zeros(()), nothing[nothing]
    )
    metrics = EpicMetrics()
    metrics.update(torch.zeros(2, 3), corruption, torch.zeros(()), torch.zeros(()))
    assert metrics.compute() == {"epic_itc": 0.0, "epic_gen": 0.0}


def test_updates_keep_no_graph() -> None:
    logits, corruption = example(0)
    metrics = EpicMetrics()
    metrics.update(logits.requires_grad_(), corruption, logits.sum())
    kept: list[Any] = [value for value in vars(metrics).values() if isinstance(value, Tensor)]
    assert kept and not any(value.requires_grad for value in kept)
