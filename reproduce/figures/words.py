"""Words of a caption: the most salient one, and the word that the generator finds likeliest in its place."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import NamedTuple

import torch

from epic_common.generator import ConditionedGenerator, LanguageModelGenerator, TokenGenerator
from reproduce.figures.reading import Pair, PairReader

_WORD = re.compile(r"\w+")
_MOST_TRIED = 1000  # of the generator's likeliest tokens


class Word(NamedTuple):
    """A word, and the characters of the caption that it is."""

    text: str
    start: int
    end: int


def words_of(pair: Pair) -> Iterator[Word]:
    """The words of a caption that the model has tokens of: a long caption is cut."""
    for match in _WORD.finditer(pair.text):
        if pair.tokens_of(*match.span()):
            yield Word(match.group(), *match.span())


def find_word(pair: Pair, word: str) -> Word:
    """The first ``word`` of a caption, whatever its case.

    Raises:
        ValueError: there is none.
    """
    there = list(words_of(pair))
    for each in there:
        if each.text.casefold() == word.casefold():
            return each
    raise ValueError(
        f"--word {word}: no word of the caption {pair.text!r}; it has {', '.join(each.text for each in there)}"
    )


def most_salient_word(pair: Pair, alpha: list[float]) -> Word:
    """The word whose tokens have most of alpha (n,), Eq. 8.

    Raises:
        ValueError: the caption has no word.
    """
    there = list(words_of(pair))
    if not there:
        raise ValueError(f"the caption {pair.text!r} has no word that could be replaced")
    return max(there, key=lambda word: sum(alpha[i] for i in pair.tokens_of(word.start, word.end)))


def with_word(text: str, word: Word, other: str) -> str:
    """The caption with another word in place of ``word``."""
    return text[: word.start] + other + text[word.end :]


@torch.no_grad()
def likeliest_other_word(
    generator: TokenGenerator, reader: PairReader, data: bytes, pair: Pair, word: Word
) -> tuple[str, Pair]:
    """The likeliest token in place of a word that makes another word, and the pair with it.

    The generator reads one mask token where the word stood (Eq. 3-4).

    Raises:
        ValueError: the generator is no language model that reads text alone, or finds no word.
    """
    if not isinstance(generator, LanguageModelGenerator) or isinstance(generator, ConditionedGenerator):
        raise ValueError("the checkpoint's generator does not propose words from text alone: give --replace WORD")
    places = pair.tokens_of(word.start, word.end)
    before, after = pair.ids[0, : places[0]], pair.ids[0, places[-1] + 1 :]
    masked = torch.cat([before, before.new_tensor([generator.vocabulary.mask_id]), after])[None]
    logits = generator.logits(masked, torch.ones_like(masked), torch.tensor([places[0]]))[0]
    likeliest = logits.masked_fill(generator.forbidden, -torch.inf).argsort(descending=True)
    for token in likeliest[:_MOST_TRIED].tolist():
        other = str(reader.tokenizer.decode([token])).strip()
        if not other.isalnum() or other.casefold() == word.text.casefold():
            continue
        changed = reader(data, with_word(pair.text, word, other))
        expected = torch.cat([before, before.new_tensor([token]), after])
        if torch.equal(changed.ids[0], expected):  # the token is a word of its own, not a piece of one
            return other, changed
    raise ValueError(f"the generator proposes no other word for {word.text!r}: give --replace WORD")
