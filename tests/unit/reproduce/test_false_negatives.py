"""What becomes of replaced words, and where alpha lies, in captions written by hand."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from reproduce.miniature.corruptions import Corrupted, held_out_captions, spans_of_tokens
from reproduce.miniature.false_negatives import false_negatives, fates
from reproduce.miniature.salient_mass import mass
from scenes.model import Box, Scene, Thing
from scenes.readings import caption_of
from vlp.data.json.text import pre_caption

TEXT = "A small red ball to the left of two blue cats on the grass."
FIELDS = {"small": "size", "red": "colour", "ball": "kind", "left": "relation", "two": "count", "blue": "colour"}
FIELDS |= {"cats": "kind", "grass": "ground"}
SALIENT = ("red", "left", "two")


def thing(kind: str, colour: str, size: str, count: int, *boxes: Box) -> Thing:
    return Thing(kind, colour, size, "plain", count, "left", boxes)


CATS = Box(0.6, 0.6, 0.75, 0.9), Box(0.75, 0.6, 0.9, 0.9)
# Two small balls to the left of the cats, a big one above them.
SCENE = Scene(
    "grass",
    "day",
    (
        thing("ball", "red", "small", 1, Box(0.1, 0.7, 0.2, 0.9)),
        thing("ball", "green", "small", 1, Box(0.25, 0.7, 0.35, 0.9)),
        thing("ball", "red", "big", 1, Box(0.6, 0.1, 0.9, 0.4)),
        thing("cat", "blue", "medium", 2, *CATS),
    ),
)


def record_of(text: str) -> dict[str, Any]:
    """The caption's entry in a truth record."""
    spans = [
        {"start": m.start(), "end": m.end(), "field": FIELDS[m.group()], "salient": m.group() in SALIENT}
        for m in re.finditer(r"\w+", text)
        if m.group() in FIELDS
    ]
    return {"raw": text, "spans": spans}


class Words:
    """Tokens are words; a token that is written ``+man`` goes on with the word before it."""

    def __init__(self) -> None:
        self.known = list[str]()

    def id(self, word: str) -> int:
        if word not in self.known:
            self.known.append(word)
        return self.known.index(word)

    def decode(self, ids: list[int]) -> str:
        return " ".join(self.known[i] for i in ids).replace(" +", "")


WORDS = Words()


def corrupted(changes: dict[int, str], pieces: Sequence[str] = (), alpha: Sequence[float] = ()) -> Corrupted:
    """TEXT with other tokens at some places; ``pieces`` are its tokens, where they are no whole words."""
    caption = caption_of(record_of(TEXT))
    assert caption.claim.holds(SCENE)
    tokens = list(pieces) or re.findall(r"\w+|\.", TEXT)
    spans, at = list[tuple[int, int]](), 0
    for token in tokens:
        at = TEXT.index(token.removeprefix("+"), at)
        spans.append((at, at + len(token.removeprefix("+"))))
        at = spans[-1][1]
    read = [changes.get(i, token) for i, token in enumerate(tokens)]
    replaced = [i in changes for i in range(len(tokens))]
    ids = [WORDS.id(token) for token in read]
    return Corrupted(SCENE, caption, spans_of_tokens(caption, TEXT, spans), list(alpha), replaced, ids)


@pytest.mark.parametrize(
    ("word", "other", "fate"),
    [
        ("red", "green", "kept_true"),  # another ball is small, green and left of them
        ("red", "yellow", "made_false"),
        ("red", "ball", "no_statement"),
        ("small", "little", "kept_true"),  # the same value
        ("small", "big", "made_false"),  # that one hangs above them
        ("ball", "balls", "kept_true"),  # the same value, whatever its number
        ("ball", "tree", "made_false"),
        ("ball", "dog", "no_statement"),  # no word of scenes
        ("left", "right", "made_false"),
        ("two", "three", "made_false"),
        ("cats", "kittens", "kept_true"),
        ("cats", "cup", "made_false"),
        ("grass", "lawn", "kept_true"),
        ("grass", "Beach", "made_false"),
        ("to", "by", "outside"),
        ("A", "the", "outside"),
        (".", "red", "outside"),
    ],
)
def test_a_replaced_word_has_the_fate_that_the_picture_gives_it(word: str, other: str, fate: str) -> None:
    place = re.findall(r"\w+|\.", TEXT).index(word)
    assert list(fates(corrupted({place: other}), WORDS.decode)) == [fate]


def test_each_word_is_judged_by_itself_and_tokens_are_counted() -> None:
    many = corrupted({0: "the", 1: "big", 2: "green", 3: "balls", 13: "lawn"})  # together they would be false
    found = false_negatives([many, corrupted({2: "red2", 13: "snow"}), corrupted({})], WORDS.decode)
    counts = {"kept_true": 3, "made_false": 2, "no_statement": 1, "outside": 1}
    assert found == {"share": 3 / 7, "share_of_statements": 3 / 5, "replaced": 7, **counts, "pairs": 3}
    nothing = false_negatives([corrupted({})], WORDS.decode)
    assert nothing["share"] is None and nothing["share_of_statements"] is None and nothing["replaced"] == 0


def test_a_word_of_several_tokens_is_read_as_a_whole() -> None:
    pieces = [p for word in re.findall(r"\w+|\.", TEXT) for p in (["c", "+ats"] if word == "cats" else [word])]
    place = pieces.index("c")
    assert list(fates(corrupted({place + 1: "+ups"}, pieces), WORDS.decode)) == ["made_false"]
    assert list(fates(corrupted({place + 1: "+at"}, pieces), WORDS.decode)) == ["kept_true"]
    assert list(fates(corrupted({place: "b", place + 1: "+alls"}, pieces), WORDS.decode)) == ["made_false"] * 2
    assert list(fates(corrupted({place: "rats"}, pieces), WORDS.decode)) == ["no_statement"]


def test_the_mass_is_what_alpha_has_on_salient_words() -> None:
    words = re.findall(r"\w+|\.", TEXT)
    alpha = [2.0**-i for i in range(len(words))]
    by_hand = sum(a / sum(alpha) for a, word in zip(alpha, words, strict=True) if word in SALIENT)
    assert mass(corrupted({}, alpha=[a / sum(alpha) for a in alpha])) == pytest.approx(by_hand)


def test_tokens_of_a_cleaned_caption_have_their_spans() -> None:
    record = record_of("On the grass, A small red ball.")
    caption, text = caption_of(record), pre_caption(record["raw"])
    assert text != caption.text
    spans = [match.span() for match in re.finditer(r"\w+", text)]
    found = spans_of_tokens(caption, text, [(0, 0), *spans])
    words = [None if span is None else caption.text[span.start : span.end].lower() for span in found]
    assert words == [None, None, None, "grass", None, "small", "red", "ball"]
    assert spans_of_tokens(caption, text[:5], [(0, 2), (3, 5)]) == [None, None]


def test_captions_are_held_out_and_evenly_spread() -> None:
    splits = ["train", "val", "restval", "test", "test"]
    records = [{"split": split, "captions": [f"{i}a", f"{i}b"]} for i, split in enumerate(splits)]
    path = Path("truth.jsonl")
    assert [c for _, c in held_out_captions(records, path, 99)] == ["1a", "1b", "3a", "3b", "4a", "4b"]
    assert [c for _, c in held_out_captions(records, path, 3)] == ["1a", "3a", "4a"]
    with pytest.raises(ValueError, match="no image of val or test"):
        held_out_captions(records[:1], path, 3)
