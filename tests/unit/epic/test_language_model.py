"""Vocabulary logits at masked positions only, and the checks at loading."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from transformers import AutoModel, AutoModelForMaskedLM, BertTokenizer

from epic_common.language_models.hub import load_pair
from epic_common.language_models.load import load_language_model
from epic_common.language_models.logits import masked_logits, vocabulary_head
from tests.unit.epic.tiny import config_of, language_model, sentences

VOCAB = Path(__file__).parents[2] / "parity" / "fixtures" / "meter" / "tokenizer_bert_vocab.txt"


def places_of(masked: Tensor) -> Tensor:
    return masked.flatten().nonzero().squeeze(1)


@pytest.mark.parametrize("family", ["bert", "roberta"])
def test_logits_and_gradients_equal_those_of_the_full_forward(family: str) -> None:
    torch.manual_seed(0)
    lm = language_model(family).eval().double()
    ids, mask = sentences(7, 3, 0, 5, padded_to=20)
    masked = (torch.rand(ids.shape) < 0.5) & mask.bool()
    few = masked_logits(lm, ids, mask, places_of(masked))
    few.square().sum().backward()
    gradients = {name: p.grad.clone() for name, p in lm.named_parameters() if p.grad is not None}
    lm.zero_grad()
    full = lm(input_ids=ids, attention_mask=mask).logits[masked]
    full.square().sum().backward()
    torch.testing.assert_close(few, full)
    for name, parameter in lm.named_parameters():
        torch.testing.assert_close(gradients[name], parameter.grad)


def test_the_vocabulary_projection_sees_the_masked_positions_alone() -> None:
    lm: Any = language_model()
    seen: list[tuple[int, ...]] = []
    vocabulary_head(lm).register_forward_hook(lambda _, inputs, __: seen.append(tuple(inputs[0].shape)))
    ids, mask = sentences(7, 3, padded_to=30)
    masked = torch.zeros_like(ids, dtype=torch.bool)
    masked[0, 2] = masked[1, 1] = True
    masked_logits(lm, ids, mask, places_of(masked))
    assert seen == [(2, lm.config.hidden_size)]


def test_no_masked_position_gives_no_logits_but_a_graph() -> None:
    lm = language_model()
    ids, mask = sentences(0, 0)
    logits = masked_logits(lm, ids, mask, torch.empty(0, dtype=torch.int64))
    assert logits.shape == (0, lm.config.vocab_size)
    logits.sum().backward()
    assert all(p.grad is not None and (p.grad == 0).all() for p in lm.parameters())


def test_a_sentence_without_a_single_real_token_leaves_the_others_alone() -> None:
    lm = language_model().eval()
    ids, mask = sentences(4, 2)
    masked = torch.zeros_like(ids, dtype=torch.bool)
    masked[0, 1:3] = True
    alone = masked_logits(lm, ids[:1], mask[:1], places_of(masked[:1]))
    mask[1] = 0
    both = masked_logits(lm, ids, mask, places_of(masked))
    torch.testing.assert_close(both, alone, rtol=1e-5, atol=1e-5)
    both.sum().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in lm.parameters())


def test_the_first_embedding_can_be_given() -> None:
    lm = language_model().eval()
    ids, mask = sentences(5)
    masked = torch.zeros_like(ids, dtype=torch.bool)
    masked[0, 3] = True
    own: Any = lm.get_input_embeddings()
    places = places_of(masked)
    plain = masked_logits(lm, ids, mask, places)
    torch.testing.assert_close(masked_logits(lm, ids, mask, places, own(ids[:, 0])), plain, rtol=1e-5, atol=1e-5)
    assert not torch.allclose(masked_logits(lm, ids, mask, places, own(ids[:, 2])), plain, atol=1e-2)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A language model as saved by Hugging Face, with the tokenizer of 48 words."""
    path = tmp_path_factory.mktemp("lm")
    tokenizer = BertTokenizer(str(VOCAB))
    language_model("bert", size=len(tokenizer)).save_pretrained(path)
    tokenizer.save_pretrained(path)
    return path


def test_loading_by_the_text_encoders_name_or_the_generators(folder: Path) -> None:
    tokenizer = BertTokenizer(str(VOCAB))
    own = load_language_model(config_of("epic"), str(folder), tokenizer)
    named = load_language_model(config_of("lm_trained", generator=str(folder)), "no/such-model", tokenizer)
    assert own is not None and named is not None
    assert all(torch.equal(a, b) for a, b in zip(own.parameters(), named.parameters(), strict=True))


@pytest.mark.parametrize("preset", ["itc_rand", "vlm_sas"])
def test_variants_without_a_language_model_load_none(preset: str) -> None:
    assert load_language_model(config_of(preset), "no/such-model", BertTokenizer(str(VOCAB))) is None


def test_trained_needs_a_fitted_model(folder: Path) -> None:
    with pytest.raises(ValueError, match=r"generator_training='trained' needs .*epic_common\.fit_lm"):
        load_language_model(config_of("lm_trained"), str(folder), BertTokenizer(str(VOCAB)))


def test_another_tokenization_is_refused(folder: Path, tmp_path: Path) -> None:
    words = VOCAB.read_text(encoding="utf-8").split()
    other = tmp_path / "vocab.txt"
    other.write_text("\n".join([*words[:-2], words[-1], words[-2]]) + "\n", encoding="utf-8")
    with pytest.raises(ValueError, match=r"epic\.generator=.* does not share .*: 2 of 48 tokens"):
        load_language_model(config_of("epic", generator=str(folder)), "", BertTokenizer(str(other)))


def test_a_model_without_a_masked_lm_head_is_refused(folder: Path) -> None:
    assert json.loads((folder / "config.json").read_text(encoding="utf-8"))["model_type"] == "bert"
    with pytest.raises(TypeError, match="BertModel has none of the masked-LM heads"):
        vocabulary_head(AutoModel.from_pretrained(folder))


def test_weights_that_are_no_numbers_are_refused(folder: Path, tmp_path: Path) -> None:
    model = AutoModelForMaskedLM.from_pretrained(folder)
    model.bert.embeddings.word_embeddings.weight.data[4, 2] = torch.nan
    model.save_pretrained(tmp_path)
    BertTokenizer.from_pretrained(folder).save_pretrained(tmp_path)
    message = rf"{tmp_path}: NaN or infinite values in bert\.embeddings\.word_embeddings\.weight; give others"
    with pytest.raises(ValueError, match=message):
        load_language_model(config_of("epic"), str(tmp_path), BertTokenizer(str(VOCAB)))
    with pytest.raises(ValueError, match=message):
        load_pair(str(tmp_path))
