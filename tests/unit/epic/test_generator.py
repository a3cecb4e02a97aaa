"""Eq. 3-5 and 7: what is drawn, from which distribution, what is trained, and the variants of Table 5."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from scipy.stats import chisquare
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import BertTokenizer

from epic_common.generator import (
    ConditionedGenerator,
    LanguageModelGenerator,
    UniformGenerator,
    VisionLanguageGenerator,
    build_generator,
    draw_tokens,
)
from epic_common.language_models.logits import encode_padded, vocabulary_head
from epic_common.masking import mask_tokens
from epic_common.separator import append_sep
from epic_common.vocabulary import Vocabulary
from tests.unit.epic.test_language_model import VOCAB
from tests.unit.epic.tiny import (
    EOS,
    IMAGE_WIDTH,
    MASK,
    PAD,
    SIZE,
    VOCABULARY,
    WIDTH,
    config_of,
    language_model,
    propose,
    sentences,
)


def rng(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def every_other(ids: Tensor, mask: Tensor) -> Tensor:
    """M = the odd positions that hold words."""
    words = mask.bool() & (ids > MASK)
    return words & (torch.arange(ids.shape[1]) % 2 == 1)


def lm_generator(preset: str = "epic", family: str = "roberta", **changes: Any) -> LanguageModelGenerator:
    torch.manual_seed(0)
    return LanguageModelGenerator(language_model(family), VOCABULARY, config_of(preset, **changes))


def test_vocabulary_of_a_tokenizer() -> None:
    vocabulary = Vocabulary.from_tokenizer(BertTokenizer(str(VOCAB)))
    assert vocabulary == Vocabulary(mask_id=4, pad_id=0, special_ids=(0, 1, 2, 3, 4), size=48, sep_id=3)


@pytest.mark.parametrize("family", ["bert", "roberta"])
def test_l_gen_is_the_cross_entropy_at_the_masked_positions(family: str) -> None:
    generator = lm_generator(family=family).eval()
    ids, mask = sentences(6, 3, 9)
    masked = every_other(ids, mask)
    proposal = propose(generator, ids, mask, masked, rng())
    lm: Any = generator.language_model
    log_p = lm(input_ids=mask_tokens(ids, masked, MASK), attention_mask=mask).logits.log_softmax(-1)
    terms = [-log_p[b, i, ids[b, i]] for b, i in masked.nonzero().tolist()]
    torch.testing.assert_close(proposal.loss, torch.stack(terms).mean())
    generator.config = config_of("epic", generator_reduction="sum_per_sentence")
    summed = propose(generator, ids, mask, masked, rng()).loss
    torch.testing.assert_close(summed, torch.stack(terms).sum() / 3)
    likeliest = [bool(log_p[b, i].argmax() == ids[b, i]) for b, i in masked.nonzero().tolist()]
    assert proposal.correct is not None and proposal.correct.tolist() == likeliest


def test_draws_follow_the_full_softmax_without_the_special_tokens() -> None:
    logits = 2 * torch.randn(SIZE, generator=rng(1))
    forbidden = torch.zeros(SIZE, dtype=torch.bool)
    forbidden[list(VOCABULARY.special_ids)] = True
    drawn = draw_tokens(logits.expand(30_000, SIZE), forbidden, 1.0, rng(2))
    p = logits.double().exp()[~forbidden]
    counts = drawn.bincount(minlength=SIZE)
    assert (counts[forbidden] == 0).all()
    assert chisquare(counts[~forbidden].tolist(), (30_000 * p / p.sum()).tolist()).pvalue > 1e-3


def test_the_sampling_temperature_flattens() -> None:
    logits, allowed = torch.tensor([[4.0, 0.0]]).expand(4000, 2), torch.zeros(2, dtype=torch.bool)
    share = draw_tokens(logits, allowed, 4.0, rng()).float().mean()
    assert share.item() == pytest.approx(torch.tensor([4.0, 0.0]).div(4).softmax(-1)[1].item(), abs=0.03)


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_a_row_that_is_not_finite_is_drawn_from_the_allowed_tokens_and_leaves_the_others_their_draws(
    value: float,
) -> None:
    logits = torch.randn(400, SIZE, generator=rng(1))
    forbidden = torch.arange(SIZE) <= MASK
    expected = draw_tokens(logits, forbidden, 1.0, rng(2))
    logits[:200, 20] = value
    drawn = draw_tokens(logits, forbidden, 1.0, rng(2))
    assert torch.equal(drawn[200:], expected[200:])
    assert (drawn > MASK).all() and len(drawn[:200].unique()) > 20


@pytest.mark.parametrize("preset", ["epic", "lm_cond", "lm_fixed", "lm_trained"])
@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_a_language_model_that_is_not_finite_has_no_finite_loss(preset: str, value: float) -> None:
    lm = language_model()
    generator = build_generator(config_of(preset), VOCABULARY, lm, WIDTH)
    ids, mask = sentences(6, 3)
    image_cls, masked = torch.zeros(2, WIDTH), every_other(ids, mask)
    assert propose(generator, ids, mask, masked, rng(), image_cls).loss.isfinite()
    head: Any = vocabulary_head(lm)
    with torch.no_grad():
        head.bias[7] = value
    proposal = propose(generator, ids, mask, masked, rng(), image_cls)
    assert not proposal.loss.isfinite() and (proposal.tokens > MASK).all()


def test_a_snapshot_that_is_not_finite_has_no_finite_loss() -> None:
    generator = build_generator(config_of("vlm_sas"), VOCABULARY)
    ids, mask = sentences(6, 3)
    masked = every_other(ids, mask)
    logits = torch.zeros(int(masked.sum()), SIZE)
    assert propose(generator, ids, mask, masked, rng(), snapshot_logits=lambda *_: logits).loss == 0
    logits[0, 9] = torch.nan
    assert propose(generator, ids, mask, masked, rng(), snapshot_logits=lambda *_: logits).loss.isnan()


def test_the_race_of_exponentials_draws_what_multinomial_draws() -> None:
    """The same words for the same random stream, so that a run's draws are those of earlier versions."""
    logits, forbidden = torch.randn(200, 50) * 3, torch.arange(50) < 4
    probabilities = logits.masked_fill(forbidden, -torch.inf).softmax(dim=-1)
    expected = torch.multinomial(probabilities, 1, generator=rng(5)).squeeze(1)
    assert torch.equal(draw_tokens(logits, forbidden, 1.0, rng(5)), expected)


def test_special_tokens_can_be_allowed() -> None:
    generator = lm_generator(draw_special_tokens=True)
    ids, mask = sentences(*[8] * 60)
    tokens = propose(generator, ids, mask, every_other(ids, mask), rng()).tokens
    assert set(tokens.tolist()) & set(VOCABULARY.special_ids)


def test_tokens_that_the_baseline_does_not_have_are_never_drawn() -> None:
    torch.manual_seed(0)
    generator = LanguageModelGenerator(language_model(size=SIZE + 24), VOCABULARY, config_of("epic"))
    ids, mask = sentences(*[8] * 60)
    tokens = propose(generator, ids, mask, every_other(ids, mask), rng()).tokens
    assert tokens.max() < SIZE and tokens.min() > MASK


def test_a_smaller_vocabulary_is_refused() -> None:
    with pytest.raises(ValueError, match="knows 30 tokens and the baseline's tokenizer has 40"):
        LanguageModelGenerator(language_model(size=30), VOCABULARY, config_of("epic"))


def test_no_gradient_flows_through_the_draw() -> None:
    generator = lm_generator()
    ids, mask = sentences(6, 3)
    proposal = propose(generator, ids, mask, every_other(ids, mask), rng())
    assert not proposal.tokens.requires_grad and proposal.loss.requires_grad


def test_one_forward_serves_the_draws_and_l_gen() -> None:
    generator = lm_generator()
    calls: list[int] = []
    generator.language_model.base_model.register_forward_hook(lambda *_: calls.append(1))
    ids, mask = sentences(6, 3)
    propose(generator, ids, mask, every_other(ids, mask), rng())
    assert calls == [1]


def test_dropout_is_on_in_the_trained_generator_and_can_be_switched_off() -> None:
    ids, mask = sentences(9)
    masked = every_other(ids, mask)
    for dropout in (True, False):
        generator = lm_generator(generator_dropout=dropout).train()
        first, second = (propose(generator, ids, mask, masked, rng()).loss for _ in range(2))
        assert (first != second) == dropout
        assert second.requires_grad


@pytest.mark.parametrize("preset", ["lm_fixed", "lm_trained"])
def test_a_frozen_generator_has_no_gradient_no_dropout_and_no_loss(preset: str) -> None:
    generator = lm_generator(preset).train()
    assert not any(module.training for module in generator.language_model.modules())
    assert not any(p.requires_grad for p in generator.parameters())
    assert list(generator.parameters())  # still in the module, and so in the checkpoint
    ids, mask = sentences(9)
    masked = every_other(ids, mask)
    proposal = propose(generator, ids, mask, masked, rng())
    assert proposal.loss == 0 and not proposal.loss.requires_grad
    assert torch.equal(proposal.tokens, propose(generator, ids, mask, masked, rng()).tokens)


def test_the_language_model_is_switched_where_its_mode_changes_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    for preset, changes in (("lm_fixed", []), ("epic", [False, True])):
        generator, switched = lm_generator(preset).train(), list[bool]()
        monkeypatch.setattr(type(generator.language_model), "train", lambda _, mode, to=switched: to.append(mode))
        nn.Sequential(generator).train().train()
        assert switched == []
        generator.language_model.training = preset == "epic"
        generator.eval()
        generator.language_model.training = False
        generator.train()
        assert switched == changes
        monkeypatch.undo()


def test_a_separator_is_appended_for_the_generator_alone() -> None:
    ids = torch.tensor([[0, 7, 8, PAD], [0, 9, 10, 11]])
    mask = torch.tensor([[1, 1, 1, 0], [1, 1, 1, 1]])
    masked = torch.tensor([[False, True, False, False], [False, False, False, True]])
    long_ids, long_mask = append_sep(ids, mask, VOCABULARY)
    long_masked = torch.tensor([[False, True, False, False, False], [False, False, False, True, False]])
    assert long_ids.tolist() == [[0, 7, 8, EOS, PAD], [0, 9, 10, 11, EOS]]
    assert long_mask.tolist() == [[1, 1, 1, 1, 0], [1, 1, 1, 1, 1]]
    generator = lm_generator(append_sep=True).eval()
    lm: Any = generator.language_model
    full = lm(input_ids=mask_tokens(long_ids, long_masked, MASK), attention_mask=long_mask).logits[long_masked]
    torch.testing.assert_close(logits_of(generator, ids, mask, masked), full, rtol=1e-5, atol=1e-5)
    read = []

    def encode(encoder: Any, read_ids: Tensor, read_mask: Tensor) -> Tensor:
        read.append((read_ids.tolist(), read_mask.tolist()))
        return encode_padded(encoder, read_ids, read_mask)

    proposal = propose(generator, ids, mask, masked, rng(), encode=encode)
    assert read == [(mask_tokens(long_ids, long_masked, MASK).tolist(), long_mask.tolist())]
    assert proposal.loss == propose(generator, ids, mask, masked, rng()).loss
    with pytest.raises(ValueError, match="SEP"):
        append_sep(ids, mask, Vocabulary(MASK, PAD, (0,), SIZE))


def logits_of(
    generator: LanguageModelGenerator, ids: Tensor, mask: Tensor, masked: Tensor, first_embedding: Tensor | None = None
) -> Tensor:
    places = masked.flatten().nonzero().squeeze(1)
    return generator.logits(mask_tokens(ids, masked, MASK), mask, places, first_embedding)


def conditioned(image_width: int) -> ConditionedGenerator:
    torch.manual_seed(0)
    return ConditionedGenerator(language_model(), VOCABULARY, config_of("lm_cond"), image_width).eval()


@pytest.mark.parametrize("image_width", [WIDTH, IMAGE_WIDTH])
def test_the_conditioned_generator_reads_the_image_and_stops_its_gradient(image_width: int) -> None:
    generator = conditioned(image_width)
    ids, mask = sentences(6, 3)
    masked = every_other(ids, mask)
    image = torch.randn(2, image_width, requires_grad=True)
    loss = propose(generator, ids, mask, masked, rng(), image).loss
    other = propose(generator, ids, mask, masked, rng(), -image).loss
    assert loss != other  # L_GEN sees it
    assert not torch.allclose(
        logits_of(generator, ids, mask, masked, generator.first_embedding(image)),
        logits_of(generator, ids, mask, masked),
    )  # and so do the draws
    loss.backward()
    assert image.grad is None
    assert len(list(generator.image_map.parameters())) == (0 if image_width == WIDTH else 2)
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in generator.image_map.parameters())


def test_the_image_takes_the_place_of_the_first_word_embedding() -> None:
    generator = conditioned(WIDTH)
    lm: Any = generator.language_model
    ids, mask = sentences(6, 3)
    masked = every_other(ids, mask)
    image = torch.randn(2, WIDTH)
    words = lm.get_input_embeddings()(mask_tokens(ids, masked, MASK))
    full = lm(inputs_embeds=torch.cat([image[:, None], words[:, 1:]], 1), attention_mask=mask).logits[masked]
    loss = propose(generator, ids, mask, masked, rng(), image).loss
    torch.testing.assert_close(loss, F.cross_entropy(full, ids[masked]))


def test_the_conditioned_generator_insists_on_the_image() -> None:
    ids, mask = sentences(4)
    with pytest.raises(ValueError, match="image_cls"):
        propose(conditioned(WIDTH), ids, mask, every_other(ids, mask), rng())


def test_uniform_replacements_cover_the_vocabulary_evenly() -> None:
    generator = UniformGenerator(VOCABULARY, config_of("itc_rand"))
    ids, mask = sentences(*[18] * 400)
    proposal = propose(generator, ids, mask, mask.bool(), rng())
    counts = proposal.tokens.bincount(minlength=SIZE)
    assert (counts[: MASK + 1] == 0).all()
    assert chisquare(counts[MASK + 1 :].tolist()).pvalue > 1e-3
    assert not list(generator.parameters()) and not generator.state_dict()
    assert proposal.correct is None and not proposal.loss.requires_grad


def test_the_vision_language_generator_asks_the_snapshot_with_the_masked_sentence() -> None:
    ids, mask = sentences(6, 3)
    masked = every_other(ids, mask)
    asked: list[tuple[Tensor, Tensor]] = []
    certain = torch.full((int(masked.sum()), SIZE), -50.0, requires_grad=True)

    def snapshot_logits(input_ids: Tensor, where: Tensor) -> Tensor:
        asked.append((input_ids, where))
        return certain.scatter(1, ids[masked][:, None], 50.0)

    generator = VisionLanguageGenerator(VOCABULARY, config_of("vlm_sas"))
    proposal = propose(generator, ids, mask, masked, rng(), snapshot_logits=snapshot_logits)
    assert torch.equal(proposal.tokens, ids[masked])
    assert proposal.correct is not None and proposal.correct.all()
    assert not proposal.loss.requires_grad
    ((input_ids, where),) = asked
    assert (input_ids[masked] == MASK).all() and torch.equal(where, masked.flatten().nonzero().squeeze(1))
    with pytest.raises(ValueError, match="needs snapshot_logits"):
        propose(generator, ids, mask, masked, rng())
    assert torch.equal(input_ids[~masked], ids[~masked])


def test_the_vision_language_generator_draws_words_of_the_baseline_alone() -> None:
    """Its head may have columns that are no token, as an official METER's has."""
    ids, mask = sentences(*[9] * 20)
    masked = every_other(ids, mask)
    logits = torch.zeros(int(masked.sum()), SIZE + 24)
    logits[:, : MASK + 1] = logits[:, SIZE:] = 20.0
    for special, lowest in ((False, MASK + 1), (True, 0)):
        generator = VisionLanguageGenerator(VOCABULARY, config_of("vlm_sas", draw_special_tokens=special))
        tokens = propose(generator, ids, mask, masked, rng(), snapshot_logits=lambda *_: logits).tokens
        assert tokens.min() == lowest and tokens.max() < SIZE


def test_l_gen_is_float32_under_autocast() -> None:
    generator = lm_generator().eval()
    ids, mask = sentences(6, 3)
    masked = every_other(ids, mask)
    with torch.autocast("cpu", torch.bfloat16):
        loss = propose(generator, ids, mask, masked, rng()).loss
        logits = logits_of(generator, ids, mask, masked)
    assert loss.dtype == logits.dtype == torch.float32
    # exactly the float32 cross-entropy of the half-precision model's logits
    assert loss == F.cross_entropy(logits, ids[masked], reduction="sum") / masked.sum()
