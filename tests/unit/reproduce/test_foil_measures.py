"""The numbers of foils by counting pairs."""

from __future__ import annotations

import random
from itertools import product

import pytest

from reproduce.foils.judges import Verdict
from reproduce.foils.measures import Judged, measure


def verdict(text: str, log_d: list[float] | None, match: float | None = None) -> Verdict:
    """On a sentence whose tokens are its words."""
    starts = [sum(len(word) + 1 for word in text.split()[:i]) for i in range(len(text.split()))]
    spans = [(start, start + len(word)) for start, word in zip(starts, text.split(), strict=True)]
    return Verdict(text, [hash(word) for word in text.split()], spans, log_d, match)


def drawn(rng: random.Random, words: int) -> Judged:
    """A caption and a foil with one other word; levels are few, so that many are equal."""
    true = [f"w{i}" for i in range(words)]
    false = true.copy()
    false[rng.randrange(words)] = "x"

    def judged(words: list[str]) -> Verdict:
        return verdict(" ".join(words), [-rng.randrange(1, 5) / 4 for _ in words], float(rng.randrange(3)))

    return Judged.of(judged(true), judged(false))


def test_the_numbers_are_those_of_counted_pairs() -> None:
    rng = random.Random(0)
    judged = [drawn(rng, rng.randrange(2, 8)) for _ in range(30)]
    found = measure(judged)
    of = {True: list[float](), False: list[float]()}
    for each in judged:
        for word, value in zip(each.foil.text.split(), each.foil.log_d or [], strict=True):
            of[word == "x"].append(value)
    won = [(wrong < right) + (wrong == right) / 2 for wrong, right in product(of[True], of[False])]
    assert found["itc"]["auroc"] == pytest.approx(sum(won) / len(won)) != 0.5
    assert (found["itc"]["replaced_tokens"], found["itc"]["other_tokens"]) == (30, len(of[False]))

    def first(scores: list[tuple[float, float]]) -> float:
        return 100 * sum(1.0 if a > b else 0.5 if a == b else 0.0 for a, b in scores) / len(scores)

    def mean(values: list[float] | None) -> float:
        return sum(values or []) / len(values or [])

    assert found["itc"]["accuracy"] == pytest.approx(
        first([(mean(e.caption.log_d), mean(e.foil.log_d)) for e in judged])
    )
    assert found["itm"]["accuracy"] == pytest.approx(first([(e.caption.match, e.foil.match) for e in judged]))  # type: ignore[misc]
    chance = [1 / len(each.foil.text.split()) for each in judged]
    assert found["itc"]["located_by_chance"] == pytest.approx(100 * sum(chance) / 30)
    lowest = [(each.foil.log_d or []).index(min(each.foil.log_d or [])) for each in judged]
    hits = [each.foil.text.split()[i] == "x" for each, i in zip(judged, lowest, strict=True)]
    assert found["itc"]["located"] == pytest.approx(100 * sum(hits) / 30)


def test_heads_that_are_not_there_have_no_numbers() -> None:
    vanilla = Judged.of(verdict("a dog", None, 1.0), verdict("a cat", None, 0.0))
    assert measure([vanilla]) == {"foils": 1, "unread": 0, "itc": None, "itm": {"accuracy": 100.0}}
    epic = Judged.of(verdict("a dog", [-0.1, -0.2]), verdict("a cat", [-0.1, -0.9]))
    assert measure([epic])["itm"] is None and measure([epic])["itc"]["auroc"] == 1.0


def test_what_is_cut_and_what_only_lacks_words_is_told_apart() -> None:
    cut = Judged.of(verdict("a dog", [-0.1, -0.2], 1.0), verdict("a dog", [-0.1, -0.2], 1.0))
    assert measure([cut]) == {"foils": 1, "unread": 1, "itc": None, "itm": None}
    shorter = Judged.of(verdict("a red dog", [-0.1] * 3, 0.0), verdict("a dog", [-0.2, -0.2], 1.0))
    found = measure([cut, shorter])
    assert (found["unread"], found["itc"]["accuracy"], found["itm"]["accuracy"]) == (1, 100.0, 0.0)
    assert found["itc"]["auroc"] is None and found["itc"]["located"] is None
    assert found["itc"]["replaced_tokens"] == found["itc"]["other_tokens"] == 0
