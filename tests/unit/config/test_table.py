"""docs/keys.md is what the schemas say."""

from __future__ import annotations

from pathlib import Path

import pytest

from vlp.config.__main__ import main
from vlp.config.schema import Schema, key
from vlp.config.table import key_table

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


def test_the_page_is_current(capsys: pytest.CaptureFixture[str]) -> None:
    main()
    assert capsys.readouterr().out == PAGE.read_text(encoding="utf-8")
