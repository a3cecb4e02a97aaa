"""Texts that are none to the tokenizer are found before a run, and by ``check``; those that are fit are let through."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.parity.fixture import FIXTURES
from tests.tokenizers import tokenizer_from_files
from vlp.data.json.__main__ import main as check_lists
from vlp.data.jsonl.__main__ import main as check_lines
from vlp.data.unknown_tokens import LOOKED_AT, TextsRead, complaint, spread

WORDS = ("a", "man", "dog", "runs", "surf", "##board", "##s", "on", "snow")
TEXT = "a man runs on surfboards"
PIECES = "a man runs on surf ##board ##s"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A BERT tokenizer of a few words, and of others, or there would be little that it explains."""
    path = tmp_path_factory.mktemp("bert")
    (path / "vocab.txt").write_text(
        "\n".join(("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *WORDS, *map(str, range(2025 - 5 - len(WORDS)))))
    )
    return path


@pytest.fixture(scope="module")
def tokenizer(folder: Path) -> Any:
    return tokenizer_from_files(folder / "vocab.txt")


def read(tokenizer: Any, *texts: str, tokenized: bool = False) -> TextsRead:
    ids = [
        tokenizer.convert_tokens_to_ids(text.split(" "))
        if tokenized
        else tokenizer(text, add_special_tokens=False)["input_ids"]
        for text in texts
    ]
    return TextsRead("list.json", texts, ids, tokenized)


def test_texts_and_pieces_that_are_read_as_what_they_are(tokenizer: Any) -> None:
    assert complaint(read(tokenizer, TEXT, TEXT), tokenizer) is None
    assert complaint(read(tokenizer, PIECES, "a [UNK] runs on snow", tokenized=True), tokenizer) is None
    assert complaint(TextsRead("list.json", [], []), tokenizer) is None


def test_texts_that_are_read_as_pieces(tokenizer: Any) -> None:
    said = complaint(read(tokenizer, TEXT, *["a dog runs on surfboards"] * 3, tokenized=True), tokenizer)
    assert said is not None
    assert said.startswith("list.json: of 4 texts 20% of the tokens are [UNK], and 0% where ")
    assert "Say tokenized: False" in said and f"'{TEXT}' becomes 'a man runs on [UNK]'" in said
    assert said.count(" becomes ") == 3


def test_pieces_of_another_tokenizer(tokenizer: Any) -> None:
    """Of one that keeps capitals."""
    said = complaint(read(tokenizer, "A Man runs", "A dog", tokenized=True), tokenizer)
    assert said is not None and "they are not its pieces" in said


def test_pieces_that_are_read_as_text(tokenizer: Any) -> None:
    said = complaint(read(tokenizer, PIECES, TEXT), tokenizer)
    assert said is not None and 'of the words begin with "##"' in said and "tokenized: True" in said
    assert complaint(read(tokenizer, *[TEXT] * 99, "## a dog"), tokenizer) is None  # a heading


@pytest.mark.parametrize("tokenized", [False, True])
def test_texts_of_another_script(tokenizer: Any, tokenized: bool) -> None:
    said = complaint(
        read(tokenizer, "人 在 雪", "собака", TEXT, tokenized=False)._replace(tokenized=tokenized), tokenizer
    )
    assert said is not None and "does not fit the texts" in said and "'собака' becomes '[UNK]'" in said


@given(unknown=st.integers(0, 50))
def test_the_share_decides(tokenizer: Any, unknown: int) -> None:
    texts = ["dog"] * (50 - unknown) + ["xyz"] * unknown
    assert (complaint(read(tokenizer, *texts), tokenizer) is not None) == (unknown / 50 > 4 / 45 + 0.2)


def test_a_small_vocabulary_explains_what_it_leaves_out() -> None:
    """This one has 48 entries."""
    tokenizer = tokenizer_from_files(FIXTURES / "meter/tokenizer_bert_vocab.txt")
    assert complaint(read(tokenizer, "w1 xyz", "xyz xyz"), tokenizer) is None
    assert complaint(read(tokenizer, "w1 xyz", "xyz xyz xyz"), tokenizer) is not None


@given(start=st.integers(0, 9), count=st.integers(0, 3000))
def test_what_is_looked_at_is_spread_over_the_list(start: int, count: int) -> None:
    chosen = spread(range(start, start + count))
    assert len(chosen) <= LOOKED_AT and set(chosen) <= set(range(start, start + count))
    assert not count or (chosen[0] == start and len(chosen) >= min(count, LOOKED_AT / 2))


def test_check_names_the_files(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = [{"image_rpath": "a.jpg", "image": "a.jpg", "caption": text} for text in ("собака собака собака", TEXT)]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (tmp_path / "list.json").write_text(json.dumps(rows))
    (tmp_path / "a.jpg").write_bytes(b"\xff\xd8\xff an image that is only looked for")
    recipe = {
        "train_file": [str(tmp_path / "rows.jsonl")],
        "images": {"image_key": "image_rpath", "is_image_rpath": True, "tokenized": True},
        "image_root": str(tmp_path),
        "text_encoder": str(folder),
    }
    (tmp_path / "recipe.yaml").write_text(json.dumps(recipe))
    commands: tuple[tuple[Any, list[str], str], ...] = (
        (check_lines, ["--config", str(tmp_path / "recipe.yaml")], "Say tokenized: False"),
        (
            check_lines,
            ["--files", str(tmp_path / "rows.jsonl"), "--image-root", str(tmp_path), "--tokenizer", str(folder)],
            "does not fit the texts",
        ),
        (check_lists, ["--lists", str(tmp_path / "list.json"), "--tokenizer", str(folder)], "does not fit the texts"),
    )
    for main, arguments, said in commands:
        status = main(["check", *arguments])
        assert said in capsys.readouterr().out and status == 1
