"""False negatives of EPIC's corruption: replaced tokens that leave the sentence true of its picture."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from reproduce.miniature.corruptions import Corrupted
from scenes.readings import value_of

FATES = ("kept_true", "made_false", "no_statement", "outside")


def false_negatives(corrupted: Iterable[Corrupted], decode: Callable[[list[int]], Any]) -> dict[str, Any]:
    """What becomes of the replaced tokens (T) of a checkpoint's corruptions of scenes' captions.

    Each replaced token is judged by itself, the other words of the caption being what they were:

    * ``kept_true``: its word, as it now reads, states a value of what the word stated (the same or another one), and
      the sentence with that value is true of the picture;
    * ``made_false``: the same, and the sentence is false;
    * ``no_statement``: it belongs to a word that stated something, which now states nothing of the kind;
    * ``outside``: it belongs to a word that stated nothing, such as "a" or "the".

    ``share`` is ``kept_true`` over all ``replaced`` tokens, those without a statement among them: a lower bound.
    ``share_of_statements`` is ``kept_true`` over ``kept_true + made_false``. None where nothing is counted.

    Args:
        corrupted: of :func:`reproduce.miniature.corruptions.corruptions`.
        decode: makes the text of tokens.
    """
    counts, captions = Counter[str](), 0
    for each in corrupted:
        counts.update(fates(each, decode))
        captions += 1
    replaced, stated = sum(counts.values()), counts["kept_true"] + counts["made_false"]
    return {
        "share": counts["kept_true"] / replaced if replaced else None,
        "share_of_statements": counts["kept_true"] / stated if stated else None,
        "replaced": replaced,
        **{fate: counts[fate] for fate in FATES},
        "pairs": captions,
    }


def fates(corrupted: Corrupted, decode: Callable[[list[int]], Any]) -> Iterator[str]:
    """Of every replaced token of a caption one of FATES."""
    for token, replaced in enumerate(corrupted.replaced):
        if replaced:
            yield _fate(corrupted, token, decode)


def _fate(corrupted: Corrupted, token: int, decode: Callable[[list[int]], Any]) -> str:
    span = corrupted.span_of[token]
    if span is None:
        return "outside"
    word = [number for number, other in zip(corrupted.ids, corrupted.span_of, strict=True) if other == span]
    value = value_of(span.slot.field, str(decode(word)).strip())
    if value is None:
        return "no_statement"
    holds = corrupted.caption.claim.with_value(span.slot, value).holds(corrupted.scene)
    return "kept_true" if holds else "made_false"
