"""Which words of a foil are not those of its caption."""

from __future__ import annotations

import re
from collections.abc import Sequence
from difflib import SequenceMatcher

_WORD = re.compile(r"\w+")


def wrong_words(caption: str, foil: str) -> list[tuple[int, int]]:
    """Characters [start, end) of the foil's words that are replaced or added; none where words are only left out.

    Case and punctuation count for nothing. What both have in common at the start and at the end is right, so that of
    one replaced word it is always that word; in between the longest common parts are.
    """
    true, false = ([word.group().casefold() for word in _WORD.finditer(text)] for text in (caption, foil))
    start = _alike(true, false)
    end = _alike(true[start:][::-1], false[start:][::-1])
    matcher = SequenceMatcher(None, true[start : len(true) - end], false[start : len(false) - end], autojunk=False)
    wrong = [
        start + place
        for kind, _, _, first, last in matcher.get_opcodes()
        if kind != "equal"
        for place in range(first, last)
    ]
    spans = [word.span() for word in _WORD.finditer(foil)]
    return [spans[place] for place in wrong]


def _alike(first: Sequence[str], second: Sequence[str]) -> int:
    """How many words both have in common from the start on."""
    count = 0
    for one, other in zip(first, second, strict=False):
        if one != other:
            break
        count += 1
    return count
