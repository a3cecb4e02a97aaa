"""The masking rule of docs/official/meter.md §3.6; its frequencies against official ones are in the parity fixtures."""

from __future__ import annotations

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.parity.fixture import FIXTURES
from tests.tokenizers import tokenizer_from_files
from vlp.data.masking import MlmMasker
from vlp.data.tokenizers import encode

METER = FIXTURES / "meter"
BERT = tokenizer_from_files(METER / "tokenizer_bert_vocab.txt")
ROBERTA = tokenizer_from_files(METER / "tokenizer_roberta_vocab.json", METER / "tokenizer_roberta_merges.txt")

texts = st.lists(st.sampled_from(["w1", "w2a", "w3abc", "w4", "w5abca", "zzz"]), max_size=30).map(" ".join)


def words_of(ids: list[int]) -> list[list[int]]:
    """Positions of each BERT word, special tokens left out."""
    words: list[list[int]] = []
    for i, token in enumerate(BERT.convert_ids_to_tokens(ids)):
        if token.startswith("##"):
            words[-1].append(i)
        elif token not in ("[CLS]", "[SEP]", "[PAD]"):
            words.append([i])
    return words


@settings(max_examples=150, deadline=None)
@given(texts, st.sampled_from([BERT, ROBERTA]), st.booleans(), st.integers(0, 10**6), st.integers(8, 50))
def test_labels_tell_what_was_there(text: str, tokenizer, whole_word: bool, seed: int, length: int) -> None:  # type: ignore[no-untyped-def]
    (ids,) = encode(tokenizer, [text], length).ids
    masked, labels = MlmMasker(tokenizer, 0.15, whole_word)(ids, random.Random(seed))
    selected = [i for i in range(length) if labels[i] != -100]
    assert all(labels[i] == ids[i] for i in selected)
    assert all(masked[i] == ids[i] for i in range(length) if i not in selected)
    assert not {ids[i] for i in selected} & {tokenizer.cls_token_id, tokenizer.sep_token_id, tokenizer.pad_token_id}
    assert len(masked) == len(labels) == length
    if whole_word:
        assert len(selected) <= max(1, round(0.15 * length))


@settings(max_examples=100, deadline=None)
@given(texts, st.integers(0, 10**6))
def test_words_are_selected_whole(text: str, seed: int) -> None:
    (ids,) = encode(BERT, [text], 50).ids
    _, labels = MlmMasker(BERT, 0.15, True)(ids, random.Random(seed))
    for word in words_of(ids):
        assert len({labels[i] != -100 for i in word}) == 1


@pytest.mark.parametrize(("length", "budget"), [(50, 8), (40, 6), (30, 4), (10, 2), (4, 1), (2, 1)])
def test_budget_is_bankers_rounding_of_the_padded_length(length: int, budget: int) -> None:
    """[CLS] and [SEP] are no candidates, so a caption without pads gets the whole budget."""
    (ids,) = encode(BERT, ["w1 " * 60], length).ids
    masker = MlmMasker(BERT, 0.15, True)
    counts = {length - masker(ids, random.Random(seed))[1].count(-100) for seed in range(20)}
    assert counts == ({budget} if length > 2 else {0})


def test_pads_and_roberta_specials_use_up_budget() -> None:
    masker = MlmMasker(ROBERTA, 0.15, True)
    (short,), (full,) = encode(ROBERTA, ["abc"], 50).ids, encode(ROBERTA, ["x" * 60], 50).ids
    counts = [[50 - masker(ids, random.Random(s))[1].count(-100) for s in range(300)] for ids in (short, full)]
    assert min(counts[0]) == 0 and 0 < sum(counts[0]) / 300 < 1  # 3 tokens x 8 / 50
    assert set(counts[1]) == {6, 7, 8}


def test_a_word_longer_than_the_budget_is_never_taken() -> None:
    (ids,) = encode(BERT, ["w1abca w2"], 8).ids  # budget 1
    masker = MlmMasker(BERT, 0.15, True)
    picked = [[i for i, label in enumerate(masker(ids, random.Random(s))[1]) if label != -100] for s in range(50)]
    assert {tuple(p) for p in picked} == {(6,)}


def test_replacements_come_from_the_whole_vocabulary() -> None:
    (ids,) = encode(BERT, ["w1 " * 60], 50).ids
    masker = MlmMasker(BERT, 1.0, False)
    seen = {i for seed in range(200) for i in masker(ids, random.Random(seed))[0][1:-1]}
    assert seen == set(range(len(BERT)))


def test_unknown_words_are_special_to_whole_word_masking_only() -> None:
    (ids,) = encode(BERT, ["zzz " * 60], 50).ids
    assert set(MlmMasker(BERT, 1.0, True)(ids, random.Random(0))[1]) == {-100}
    assert MlmMasker(BERT, 1.0, False)(ids, random.Random(0))[1][1:-1] == ids[1:-1]


def test_bad_arguments_are_refused() -> None:
    with pytest.raises(ValueError, match="mlm_prob is a probability"):
        MlmMasker(BERT, 15)
