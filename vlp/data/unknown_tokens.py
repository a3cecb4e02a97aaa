"""Whether a run's texts are texts to its tokenizer: some of each list, looked at before the first step.

A word that the vocabulary cannot spell becomes [UNK], in silence. Of 185,604 English captions BERT's 30,522 entries
spell every one, and so does byte-level BPE, RoBERTa's; their n most frequent words alone leave out 36% of the tokens
(n = 100), 23% (300), 11% (1,000) or 4% (3,000), which is below 4 / sqrt(n).
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

from transformers import PreTrainedTokenizerBase

from vlp.data.errors import DataError

LOOKED_AT = 200  # texts of a list: some 2,000 tokens, read in 0.05 s
MOST_MORE = 0.2  # of the tokens are unknown beyond what the vocabulary explains: such texts have lost their meaning
# Of a list that is read as what it is no piece is unknown, and no word of a text begins with "##".
MOST_STRAY = 0.005
_SHOWN = 3


class TextsRead(NamedTuple):
    """Some texts of a list, and what training makes of them.

    Attributes:
        where: the list, for messages.
        texts: as they stand there.
        ids: of each the token ids.
        tokenized: they are read as pieces with spaces between them.
    """

    where: str
    texts: Sequence[str]
    ids: Sequence[Sequence[int]]
    tokenized: bool = False


def spread(numbers: range) -> range:
    """``LOOKED_AT`` of the numbers at most, at equal distances."""
    return numbers[:: -(-len(numbers) // LOOKED_AT)] if numbers else numbers


def explained(size: int) -> float:
    """The share of [UNK] that a vocabulary of ``size`` tokens explains: see above."""
    return min(1.0, 4 / math.sqrt(size))


def complaint(read: TextsRead, tokenizer: PreTrainedTokenizerBase) -> str | None:
    """What is wrong with a list: pieces of another tokenizer or none, texts that are pieces, or an unfit vocabulary."""
    unknown, name = _unknown_share(read.ids, tokenizer), tokenizer.name_or_path
    if read.tokenized:
        whole: Any = tokenizer([text.replace(" ##", "") for text in read.texts], add_special_tokens=False)
        own = _unknown_share(whole["input_ids"], tokenizer)
        if unknown > own + MOST_STRAY:
            what = (
                f"{unknown:.0%} of the tokens are {tokenizer.unk_token}, and {own:.0%} where {name} cuts the texts "
                "itself: they are not its pieces. Say tokenized: False, or cut them with it"
            )
            return _said(read, tokenizer, what)
    elif (pieces := _piece_share(read.texts)) > MOST_STRAY:
        what = (
            f'{pieces:.0%} of the words begin with "##": they are pieces, and read as text. Give the texts themselves, '
            "or, of X-VLM's JSON lines, say tokenized: True"
        )
        return _said(read, tokenizer, what)
    if unknown > explained(len(tokenizer)) + MOST_MORE:
        what = (
            f"{unknown:.0%} of the tokens are {tokenizer.unk_token}: the vocabulary of {name} does not fit the texts "
            "(another language or script?). Give a text encoder that has their words, or leave the list out"
        )
        return _said(read, tokenizer, what)
    return None


def refuse_unfit(read: TextsRead, tokenizer: PreTrainedTokenizerBase) -> None:
    """Refuse a list of which :func:`complaint` says something.

    Raises:
        DataError: with those words.
    """
    if wrong := complaint(read, tokenizer):
        raise DataError(wrong)


def _unknown_share(ids: Iterable[Sequence[int]], tokenizer: PreTrainedTokenizerBase) -> float:
    special = {*tokenizer.all_special_ids} - {tokenizer.unk_token_id}
    tokens = [number for sentence in ids for number in sentence if number not in special]
    return tokens.count(tokenizer.unk_token_id) / len(tokens) if tokens else 0.0


def _piece_share(texts: Iterable[str]) -> float:
    words = [word for text in texts for word in text.split()]
    return sum(_is_piece(word) for word in words) / len(words) if words else 0.0


def _is_piece(word: str) -> bool:
    return word.startswith("##") and len(word) > 2


def _said(read: TextsRead, tokenizer: PreTrainedTokenizerBase, what: str) -> str:
    """``what`` with the first texts that show it and what they became."""
    shown = [
        f"{text[:60]!r} becomes {_tokens(ids, tokenizer)!r}"
        for text, ids in zip(read.texts, read.ids, strict=True)
        if tokenizer.unk_token_id in ids or any(map(_is_piece, text.split()))
    ]
    return f"{read.where}: of {len(read.texts)} texts {what}. {'; '.join(shown[:_SHOWN])}"


def _tokens(ids: Sequence[int], tokenizer: PreTrainedTokenizerBase) -> str:
    special = {*tokenizer.all_special_ids} - {tokenizer.unk_token_id}
    return " ".join(map(str, tokenizer.convert_ids_to_tokens([number for number in ids if number not in special][:16])))
