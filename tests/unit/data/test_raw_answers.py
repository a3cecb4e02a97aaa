"""Oddities of the official answer normaliser; its whole behaviour is in the parity fixtures."""

from __future__ import annotations

import csv

import pytest

from tests.parity.fixture import FIXTURES
from vlp.data.raw.answers import CONTRACTIONS, frequent_answers, normalize_word


@pytest.mark.parametrize(
    ("raw", "normal"),
    [
        ("." * 40, "." * 8),  # at most 32 periods go
        ("1,000-2", "10002"),  # one digit,digit pair and every mark is deleted, not replaced
        ("a-b", "b"),  # the mark becomes a space, then "a" is an article
        ("a -b", "b"),
        ("None", "0"),
        ("  The   TWO dogs ", "2 dogs"),
    ],
)
def test_oddities(raw: str, normal: str) -> None:
    assert normalize_word(raw) == normal


def test_contractions_are_the_official_ones() -> None:
    with open(FIXTURES / "vilt" / "contractions.tsv", newline="", encoding="utf-8") as table:
        rows = list(csv.DictReader(table, delimiter="\t", quoting=csv.QUOTE_NONE))
    assert len(rows) == 120 and {row["from"]: row["to"] for row in rows} == CONTRACTIONS


def test_an_answer_needs_nine_questions() -> None:
    assert list(frequent_answers(["no"] * 8 + ["yes", "2"] * 9).items()) == [("yes", 9), ("2", 9)]
