"""Fig. 2b's corruption: what is masked stays masked, and as many other tokens as asked for are drawn."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from epic_common.analysis.corrupted_context import corrupted_context
from epic_common.config import EpicConfig
from epic_common.generator import LanguageModelGenerator, build_generator
from tests.unit.epic.tiny import MASK, SIZE, VOCABULARY, language_model, sentences

DRAWN = 39  # what the generator below always proposes, and no sentence has


def generator() -> LanguageModelGenerator:
    """A frozen language model that is sure of one token wherever it is asked."""
    model = language_model()
    with torch.no_grad():
        model.lm_head.bias[DRAWN] = 1e4
    made = build_generator(EpicConfig(enabled=True, masking="uniform", generator_training="fixed"), VOCABULARY, model)
    assert isinstance(made, LanguageModelGenerator)
    return made


SURE = generator()


def masks(ids: Tensor, seed: int) -> Tensor:
    """Some of the words of each sentence."""
    return (torch.rand(ids.shape, generator=torch.Generator().manual_seed(seed)) < 0.3) & (ids >= 5)


@settings(deadline=None, max_examples=30)
@given(
    lengths=st.lists(st.integers(1, 9), min_size=1, max_size=4),
    percent=st.integers(0, 100),
    seed=st.integers(0, 1000),
)
def test_as_many_unmasked_tokens_are_drawn_as_the_share_says(lengths: list[int], percent: int, seed: int) -> None:
    ids, mask = sentences(*lengths, seed=seed)
    ids = ids.masked_fill(ids == DRAWN, DRAWN - 1)
    masked = masks(ids, seed)
    read = corrupted_context(SURE, ids, mask, masked, percent / 100, torch.Generator().manual_seed(seed))
    for row, length in enumerate(lengths):
        words = slice(1, length + 1)
        free = int((~masked[row, words]).sum())
        assert int((read[row, words] == DRAWN).sum()) == math.ceil(percent * free / 100)
        assert bool((read[row][masked[row]] == MASK).all())
        kept = ~masked[row] & (read[row] != DRAWN)
        assert torch.equal(read[row][kept], ids[row][kept])
        assert (int(read[row, 0]), int(read[row, length + 1])) == (int(ids[row, 0]), int(ids[row, length + 1]))


def test_the_generator_sees_neither_the_masked_tokens_nor_those_that_it_draws(monkeypatch: pytest.MonkeyPatch) -> None:
    ids, mask = sentences(6, 4)
    masked = masks(ids, 3)
    seen: list[Tensor] = []
    logits = SURE.logits

    def watched(sentence: Tensor, *rest: object) -> Tensor:
        seen.append(sentence)
        return logits(sentence, *rest)  # type: ignore[arg-type]

    monkeypatch.setattr(SURE, "logits", watched)
    read = corrupted_context(SURE, ids, mask, masked, 0.5, torch.Generator().manual_seed(0))
    assert torch.equal(seen[0], ids.masked_fill(masked | (read == DRAWN), MASK))


def test_replacements_are_drawn_from_the_softmax() -> None:
    """At one place, many draws: as often as the language model's own full forward says."""
    model = language_model()
    made = build_generator(EpicConfig(enabled=True, masking="uniform", generator_training="fixed"), VOCABULARY, model)
    assert isinstance(made, LanguageModelGenerator)
    ids, mask = sentences(1)
    many = 4000
    read = corrupted_context(
        made,
        ids.expand(many, -1),
        mask.expand(many, -1),
        torch.zeros(many, ids.shape[1], dtype=torch.bool),
        1.0,
        torch.Generator().manual_seed(0),
    )
    with torch.no_grad():
        logits = model.eval()(input_ids=ids.masked_fill(ids >= 5, MASK), attention_mask=mask).logits[0, 1]
    logits[list(VOCABULARY.special_ids)] = -torch.inf
    shares = torch.bincount(read[:, 1], minlength=SIZE) / many
    assert torch.allclose(shares, logits.softmax(dim=0), atol=4 * 0.5 / many**0.5)
