"""Cleaning by a slow reading of the rules, and ids without [SEP]; official pairs are in the parity fixtures."""

from __future__ import annotations

import pickle

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.parity.fixture import FIXTURES
from tests.tokenizers import folder_of_vocabulary
from tests.unit.data.lists import tokenizer
from vlp.data.json.text import encode_cls, load_cls_tokenizer, pre_caption, pre_question

TEXTS = st.text(st.sampled_from("aB é,.'!?\"()*#:;~-/<person> \t\n"), max_size=40) | st.text(max_size=40)
TOKENIZER = tokenizer()


def slowly(text: str) -> str:
    for mark in ",.'!?\"()*#:;~":
        text = text.lower().replace(mark, "")
    return text.lower().replace("-", " ").replace("/", " ")


@settings(max_examples=300, deadline=None)
@given(TEXTS, st.integers(1, 8))
def test_captions_are_cleaned_in_the_official_order(text: str, words: int) -> None:
    expected = slowly(text).replace("<person>", "person")
    pieces, run = "", ""
    for character in expected + "\0":
        if character.isspace():
            run += character
            continue
        pieces += (run if len(run) < 2 else " ") + character
        run = ""
    expected = pieces.removesuffix("\0")
    while expected.endswith("\n"):
        expected = expected[:-1]
    while expected.startswith(" "):
        expected = expected[1:]
    while expected.endswith(" "):
        expected = expected[:-1]
    assert pre_caption(text, words) == " ".join(expected.split(" ")[:words])


@settings(max_examples=200, deadline=None)
@given(TEXTS, st.integers(1, 8))
def test_questions_keep_their_spaces(text: str, words: int) -> None:
    expected = slowly(text)
    while expected.endswith(" "):
        expected = expected[:-1]
    assert pre_question(text, words) == " ".join(expected.split(" ")[:words])


def test_a_text_is_cls_and_its_pieces() -> None:
    ids, masks = encode_cls(TOKENIZER, ["a man riding", "two dogs", ""], 512)
    names = [TOKENIZER.convert_ids_to_tokens(row.tolist()) for row in ids]
    assert names == [
        ["[CLS]", "a", "man", "riding"],
        ["[CLS]", "two", "dog", "##s"],
        ["[CLS]", "[PAD]", "[PAD]", "[PAD]"],
    ]
    assert ids.dtype == masks.dtype == torch.int64
    assert torch.equal(masks, (ids != TOKENIZER.pad_token_id).long())
    assert TOKENIZER("a", "man")["input_ids"] == TOKENIZER.convert_tokens_to_ids(
        ["[CLS]", "a", "[SEP]", "man", "[SEP]"]
    )


def test_a_cut_text_keeps_cls_and_one_piece_less() -> None:
    ids, masks = encode_cls(TOKENIZER, ["a man riding red bike", "dog"], 3)
    assert TOKENIZER.convert_ids_to_tokens(ids[0].tolist()) == ["[CLS]", "a", "man"]
    assert masks.tolist() == [[1, 1, 1], [1, 1, 0]]


def test_a_copy_in_another_process_adds_no_sep_either() -> None:
    copy = pickle.loads(pickle.dumps(TOKENIZER))
    assert torch.equal(encode_cls(copy, ["two dogs"], 9).ids, encode_cls(TOKENIZER, ["two dogs"], 9).ids)


def test_special_tokens_are_read_in_answers_alone() -> None:
    (answer,) = encode_cls(TOKENIZER, ["two dogs[SEP]"], 512, spelled=True).ids.tolist()
    assert TOKENIZER.convert_ids_to_tokens(answer) == ["[CLS]", "two", "dog", "##s", "[SEP]"]
    (caption,) = encode_cls(TOKENIZER, ["dogs [SEP] [MASK]"], 512).ids.tolist()
    assert not {TOKENIZER.sep_token_id, TOKENIZER.mask_token_id} & set(caption)


def test_another_tokenizer_is_refused() -> None:
    files = (FIXTURES / "meter" / f"tokenizer_roberta_{name}" for name in ("vocab.json", "merges.txt"))
    with folder_of_vocabulary(*files) as folder, pytest.raises(ValueError, match=r"is not BERT's, it lacks \[CLS\]"):
        load_cls_tokenizer(folder)
