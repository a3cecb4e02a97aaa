"""Recall@k against a brute force written from its definition."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from vlp.evaluation.recall import Recalls, recalls


def brute_force(scores: np.ndarray, caption_image: list[int]) -> Recalls:
    images, captions = scores.shape
    results = []
    for k in (1, 5, 10):
        best = [sorted(range(images), key=lambda i: (-scores[i, c], i))[:k] for c in range(captions)]
        results.append(np.mean([caption_image[c] in best[c] for c in range(captions)]))
    for k in (1, 5, 10):
        top = [sorted(range(captions), key=lambda c: (-scores[i, c], c))[:k] for i in range(images)]
        results.append(np.mean([any(caption_image[c] == i for c in top[i]) for i in range(images)]))
    return Recalls(*map(float, results))


@settings(max_examples=200, deadline=None)
@given(st.integers(1, 14), st.integers(1, 30), st.integers(1, 40), st.integers(0, 10**6))
def test_equals_brute_force_with_and_without_ties(images: int, captions: int, levels: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    scores = rng.integers(0, levels, (images, captions)).astype(np.float32)
    caption_image = rng.integers(0, images, captions).tolist()
    got = recalls(torch.from_numpy(scores), torch.tensor(caption_image))
    assert got == pytest.approx(brute_force(scores, caption_image))


def test_a_model_that_says_nothing_is_at_chance() -> None:
    got = recalls(torch.zeros(100, 500), torch.arange(100).repeat_interleave(5))
    assert got == pytest.approx((0.01, 0.05, 0.10, 0.01, 0.01, 0.02))


def test_perfect_scores_and_fewer_than_ten_candidates() -> None:
    assert recalls(torch.eye(3), torch.arange(3)) == Recalls(1, 1, 1, 1, 1, 1)
    assert recalls(-torch.eye(3), torch.arange(3)) == Recalls(0, 1, 1, 0, 1, 1)


def test_minus_infinity_is_a_score() -> None:
    scores = torch.tensor([[0.0, -torch.inf], [-torch.inf, -torch.inf]])
    assert recalls(scores, torch.tensor([0, 1])) == Recalls(0.5, 1, 1, 0.5, 1, 1)


@pytest.mark.parametrize(
    ("scores", "caption_image", "message"),
    [
        (torch.tensor([[0.0, torch.nan]]), [0, 0], "image 0 and caption 1 is NaN"),
        (torch.zeros(2, 3), [0, 1], r"got \(2, 3\) and \(2,\)"),
        (torch.zeros(2, 3), [0, 1, 2], "index the 2 images"),
        (torch.zeros(2, 0), [], "nothing to rank"),
    ],
)
def test_bad_input_is_refused(scores: torch.Tensor, caption_image: list[int], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        recalls(scores, torch.tensor(caption_image, dtype=torch.long))
