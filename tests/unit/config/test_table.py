"""docs/keys.md is what the schemas say."""

from __future__ import annotations

from pathlib import Path

import pytest

from vlp.config.__main__ import main
from vlp.config.schema import Schema, key
from vlp.config.table import key_table, script_table

PAGE = Path(__file__).parents[3] / "docs" / "keys.md"


class One(Schema):
    size: int = key(3, "a size")
    own: str = key("", "its own")


class Two(Schema):
    size: int = key(4, "another size")


def test_a_row_says_where_baselines_differ() -> None:
    assert list(key_table({"A": One, "B": Two})) == [
        "| key | A | B | allowed | meaning |",
        "| --- | --- | --- | --- | --- |",
        "| `size` | `3` | `4` | a whole number | A: a size; B: another size |",
        "| `own` | empty | — | text | its own |",
    ]


class Block(Schema):
    epochs: int = key(3, "passes")


class Train(Schema):
    size: int = key(3, "a size")
    block: Block = key(Block(), "the schedule")


class Longer(Train):
    size: int = key(4, "another size")
    block: Block = key(Block(epochs=9), "the schedule")
    own: str = key("", "its own")


def test_scripts_share_a_table() -> None:
    assert list(script_table({"A": Train, "B": Train, "C": Longer})) == [
        "| key | default | allowed | meaning |",
        "| --- | --- | --- | --- |",
        "| `size` | `3` (A, B); `4` (C) | a whole number | A, B: a size; C: another size |",
        "| `block.epochs` | `3` (A, B); `9` (C) | a whole number | passes |",
        "| `own` | empty (C) | text | its own |",
    ]


def test_the_page_is_current(capsys: pytest.CaptureFixture[str]) -> None:
    main()
    assert capsys.readouterr().out == PAGE.read_text(encoding="utf-8")
