"""Ranking candidate answers: the official formula, one question and one candidate at a time."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from vlp.evaluation.answer_ranking import rank_answers
from vlp.evaluation.vqa import answer_accuracy

V, C, Q, K = 30, 7, 3, 5


def case() -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """First-token logits, candidates of two to five tokens, and the logits of a decoder that knows places alone."""
    generator = torch.Generator().manual_seed(0)
    first = torch.randn(Q, V, generator=generator)
    ids = torch.randint(5, V, (C, 6), generator=generator)
    ids[:, 0] = 1
    masks = (torch.arange(6) < torch.tensor([3, 4, 6, 3, 5, 3, 4])[:, None]).long()
    return first, ids * masks, masks, torch.randn(Q, 6, V, generator=generator)


def official(first: Tensor, ids: Tensor, masks: Tensor, decoder: Tensor, k: int) -> list[list[tuple[int, float]]]:
    ranked = []
    for q in range(Q):
        p_first = first[q].softmax(dim=0)
        kept = sorted(range(C), key=lambda c: -float(p_first[ids[c, 1]]))[:k]
        scores = {}
        for c in kept:
            loss = 0.0
            for place in range(1, int(masks[c].sum())):  # the first token is in it and counts again below
                loss -= float(decoder[q, place - 1].log_softmax(dim=0)[ids[c, place]])
            scores[c] = math.log(float(p_first[ids[c, 1]])) - loss
        total = sum(math.exp(s) for s in scores.values())
        ranked.append(sorted(((c, math.exp(s) / total) for c, s in scores.items()), key=lambda pair: -pair[1]))
    return ranked


@pytest.mark.parametrize("sequences", [1, 4, 512])
def test_ranking_is_the_official_one(sequences: int) -> None:
    first, ids, masks, decoder = case()

    def losses(some: Tensor, mask: Tensor, question: Tensor) -> Tensor:
        assert len(some) <= sequences and mask[:, -1].any()
        log_p = decoder[question, : some.shape[1] - 1].log_softmax(dim=2)
        return -(log_p.gather(2, some[:, 1:, None])[..., 0] * mask[:, 1:]).sum(dim=1)

    found = rank_answers(first, ids, masks, K, losses, sequences)
    for q, expected in enumerate(official(first, ids, masks, decoder, K)):
        assert found.ids[q].tolist() == [c for c, _ in expected]
        torch.testing.assert_close(found.probabilities[q], torch.tensor([p for _, p in expected]))


def test_more_candidates_than_there_are() -> None:
    first, ids, masks, _ = case()
    with pytest.raises(ValueError, match="k_test=8, but the answer list has 7 candidates"):
        rank_answers(first, ids, masks, 8, lambda *_: torch.zeros(1))


@pytest.mark.parametrize(("matches", "accuracy"), [(0, 0.0), (1, 0.3), (2, 0.6), (3, 0.9), (4, 1.0), (10, 1.0)])
def test_accuracy_of_an_answer(matches: int, accuracy: float) -> None:
    annotated = ["Two"] * matches + ["a lot"] * (10 - matches)
    assert answer_accuracy("2", annotated) == pytest.approx(accuracy)


def test_accuracy_of_a_single_annotation() -> None:
    assert answer_accuracy("dog", ["A dog."]) == 1 and answer_accuracy("cat", ["dog"]) == 0
