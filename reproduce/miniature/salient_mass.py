"""How much of the masking distribution lies on the words that only the image determines."""

from __future__ import annotations

from collections.abc import Sequence

from reproduce.miniature.corruptions import Corrupted


def salient_mass(corrupted: Sequence[Corrupted]) -> float:
    """The mean over captions of alpha's sum over the tokens of salient words, 0 to 1.

    Alpha is the distribution that the first masked token of a sentence is drawn from, by whichever masking the
    checkpoint's configuration names. A word is salient where the rest of its sentence does not give it away
    (scenes.model.Span).

    Args:
        corrupted: of :func:`reproduce.miniature.corruptions.corruptions`, at least one.
    """
    return sum(map(mass, corrupted)) / len(corrupted)


def mass(corrupted: Corrupted) -> float:
    """Of one caption."""
    pairs = zip(corrupted.alpha, corrupted.span_of, strict=True)
    return sum(alpha for alpha, span in pairs if span is not None and span.salient)
