"""Masking without a teacher: surprise and rarity by brute force, what can be drawn, and what a run notices of it."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from epic_common.generator import LanguageModelGenerator, build_generator
from epic_common.masking import maskable_positions
from epic_common.separator import append_sep
from epic_common.unaided import surprise_scores
from tests.unit.epic.tiny import (
    MASK,
    SIZE,
    VOCABULARY,
    TinyModel,
    batch_of,
    config_of,
    epic_of,
    language_model,
    sentences,
    step,
)

SPECIAL = torch.tensor(VOCABULARY.special_ids)
COUNTS = torch.arange(SIZE) ** 3 % 101  # some tokens are in no caption


def generator_of(family: str = "roberta", **changes: Any) -> LanguageModelGenerator:
    made = build_generator(config_of("epic", masking="surprise", **changes), VOCABULARY, language_model(family))
    assert isinstance(made, LanguageModelGenerator)
    return made


@torch.no_grad()
def plain_surprise(generator: LanguageModelGenerator, words: Tensor, passes: int) -> list[float]:
    """Of one sentence (n,) without padding, token by token from the whole model, in evaluation."""
    lm = generator.language_model.eval()
    places = [i for i, token in enumerate(words.tolist()) if token not in VOCABULARY.special_ids]
    found = [0.0] * len(words)
    for at, i in enumerate(places):
        sentence = words.clone()
        sentence[[place for other, place in enumerate(places) if other % passes == at % passes]] = MASK
        ids, mask = sentence[None], torch.ones(1, len(words), dtype=torch.long)
        if generator.config.append_sep:
            ids, mask = append_sep(ids, mask, VOCABULARY)
        logits = lm(input_ids=ids, attention_mask=mask).logits[0, i].double()
        found[i] = -math.log(float(logits.softmax(dim=0)[words[i]]))
    return found


@settings(max_examples=12, deadline=None)
@given(
    st.lists(st.integers(0, 9), min_size=1, max_size=4),
    st.sampled_from([2, 3, 12]),
    st.sampled_from(["roberta", "bert"]),
    st.booleans(),
    st.integers(0, 9),
)
def test_surprise_is_what_f_l_gives_the_token_that_it_does_not_see(
    lengths: list[int], passes: int, family: str, sep: bool, seed: int
) -> None:
    """Of k words each that are k-th neighbours all are masked together; with more passes than words each is alone."""
    torch.manual_seed(seed)
    generator = generator_of(family, append_sep=sep)
    ids, mask = sentences(*lengths, seed=seed, padded_to=12)
    maskable = maskable_positions(ids, mask, SPECIAL)
    scores = surprise_scores(generator, ids, mask, maskable, passes)
    assert scores.shape == ids.shape and not scores[~maskable].any()
    for row, length in enumerate(lengths):
        expected = torch.tensor(plain_surprise(generator, ids[row, : length + 2], passes))
        torch.testing.assert_close(scores[row, : length + 2], expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("temperature", [1.0, 2.5])
def test_surprise_masks_in_proportion_to_one_over_p(temperature: float) -> None:
    epic, batch = epic_of("epic", masking="surprise", surprise_passes=12, saliency_temperature=temperature), batch_of(7)
    alpha = epic.corruption_of(batch).log_alpha.exp()[0]
    generator = epic.generator
    assert isinstance(generator, LanguageModelGenerator)
    weights = torch.tensor(plain_surprise(generator, batch["ids"][0], 12)).div(temperature).exp()
    weights[[0, -1]] = 0
    torch.testing.assert_close(alpha, weights / weights.sum(), rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("temperature", [1.0, 2.0])
def test_frequency_masks_in_proportion_to_one_over_the_count(temperature: float) -> None:
    epic, batch = epic_of("epic", masking="frequency", saliency_temperature=temperature), batch_of(9, 4, 14)
    epic.set_token_counts(COUNTS)
    alpha = epic.corruption_of(batch).log_alpha.exp()
    for row, ids in enumerate(batch["ids"].tolist()):
        weights = [(1 + int(COUNTS[i])) ** (-1 / temperature) if i > MASK else 0.0 for i in ids]
        torch.testing.assert_close(alpha[row], torch.tensor(weights) / sum(weights))


@pytest.mark.parametrize("masking", ["surprise", "frequency"])
def test_special_tokens_and_padding_are_never_masked_and_empty_captions_pass(masking: str) -> None:
    epic, batch = epic_of("epic", masking=masking), batch_of(9, 0, 4, 1)
    epic.set_token_counts(COUNTS)
    losses, corruption = step(epic, TinyModel(), batch)
    words = maskable_positions(batch["ids"], batch["mask"], SPECIAL)
    alpha = corruption.log_alpha.exp()
    assert torch.equal(alpha > 0, words)
    torch.testing.assert_close(alpha.sum(dim=1), torch.tensor([1.0, 0.0, 1.0, 1.0]))
    assert corruption.masked.sum(dim=1).tolist() == [4, 0, 2, 1] and not (corruption.masked & ~words).any()
    assert all(loss.isfinite() for loss in losses.values())
    nothing, _ = step(epic, TinyModel(), batch_of(0, 0))
    assert all(loss.isfinite() for loss in nothing.values())


@pytest.mark.parametrize("masking", ["surprise", "frequency"])
def test_the_likeliest_are_drawn_most(masking: str) -> None:
    """At a low temperature M is the m most surprising, or rarest, tokens of every sentence."""
    epic, batch = epic_of("epic", masking=masking, saliency_temperature=1e-4), batch_of(9, 14, 6)
    epic.set_token_counts(COUNTS * 40 + torch.arange(SIZE))  # no two tokens are equally rare
    corruption = epic.corruption_of(batch)
    for row, m in enumerate([4, 5, 3]):
        most = set(corruption.log_alpha[row].topk(m).indices.tolist())
        if len(set(batch["ids"][row].tolist())) == int(batch["mask"][row].sum()):  # a repeated word is a tie
            assert set(corruption.masked[row].nonzero().flatten().tolist()) == most


def test_f_l_is_asked_in_evaluation_mode_without_gradient_and_goes_on_as_it_was() -> None:
    """L_GEN's dropout and gradients, and f_L's mode, are those of a run that masks the same words by other means."""

    def gradients(masking: str, scores: Tensor | None) -> tuple[list[Tensor], Tensor]:
        epic, batch = epic_of("epic", masking=masking), batch_of(9, 5)
        epic.teacher = None
        torch.manual_seed(5)
        modes = list[bool]()
        generator: Any = epic.generator
        generator.language_model.register_forward_pre_hook(lambda model, _: modes.append(model.training))
        with torch.autocast("cpu", dtype=torch.bfloat16):
            corruption = epic.corrupt(batch["ids"], batch["mask"], scores)
        corruption.generator_loss.backward()
        assert generator.language_model.training
        grads = [p.grad for p in generator.parameters()]
        assert sum(grad is not None for grad in grads) > 20
        return [grad for grad in grads if grad is not None], corruption.log_alpha.clamp_min(-1e30)

    ours, log_alpha = gradients("surprise", None)
    theirs, _ = gradients("saliency", log_alpha)
    assert len(ours) == len(theirs) and all(map(torch.equal, ours, theirs))


@pytest.mark.parametrize("training", ["finetune", "fixed"])
def test_logits_that_are_not_finite_stop_the_run_in_the_generators_name(training: str) -> None:
    epic, batch = epic_of("epic", masking="surprise", generator_training=training), batch_of(9, 5)
    good, _ = step(epic, TinyModel(), batch)
    assert good["epic_generator_guard_loss"] == 0 and "epic_teacher_guard_loss" not in good
    generator: Any = epic.generator
    with torch.no_grad():
        generator.language_model.lm_head.bias.fill_(torch.nan)
    bad, _ = step(epic, TinyModel(), batch)
    assert bad["epic_generator_guard_loss"].isnan()


def test_what_is_not_given_is_refused() -> None:
    ids, mask = sentences(5)
    scores = torch.zeros_like(ids, dtype=torch.float32)
    for masking in ("surprise", "frequency"):
        with pytest.raises(ValueError, match=rf"epic\.masking='{masking}' takes no scores of a teacher"):
            epic_of("epic", masking=masking).corrupt(ids, mask, scores)
    with pytest.raises(ValueError, match=r"epic\.masking='frequency' needs set_token_counts\(\) before"):
        epic_of("epic", masking="frequency").corrupt(ids, mask, None)
    with pytest.raises(ValueError, match="the counts are of 3 tokens, and the tokenizer has 40"):
        epic_of("epic", masking="frequency").set_token_counts(torch.ones(3, dtype=torch.int64))


def test_counts_are_in_no_state_dict() -> None:
    epic = epic_of("epic", masking="frequency")
    before = list(epic.state_dict())
    epic.set_token_counts(COUNTS)
    assert list(epic.state_dict()) == before
