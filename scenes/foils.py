"""Captions with one salient word replaced so that they no longer fit the image."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass

from scenes.model import Caption, Scene, Slot, Span
from scenes.statistics import Statistics, pairs
from scenes.words import COLOURS, NUMBERS, PATTERNS, SIZES, TIME_WORDS, words_for

_CONTRARY = {
    "left": ("right",),
    "right": ("left",),
    "above": ("below",),
    "below": ("above",),
    "on": ("below",),
}


@dataclass(frozen=True)
class Foil:
    """A false caption; `text[start:end]` is `replacement`, which stands where the caption has `original`."""

    text: str
    start: int
    end: int
    original: str
    replacement: str


def foils(caption: Caption, scene: Scene, statistics: Statistics, rng: random.Random) -> list[Foil]:
    """Return one foil per salient word of the caption."""
    return [_foil(caption, span, scene, statistics, rng) for span in caption.salient]


def _foil(caption: Caption, span: Span, scene: Scene, statistics: Statistics, rng: random.Random) -> Foil:
    weights = {
        value: weight
        for value, weight in _alternatives(caption, span.slot, scene, statistics)
        if value != span.slot.value and not caption.claim.with_value(span.slot, value).holds(scene)
    }
    value = rng.choices(list(weights), list(weights.values()))[0]
    plural = span.slot.field == "kind" and caption.claim.phrases[span.slot.index].count > 1
    original = caption.text[span.start : span.end]
    replacement = rng.choice([word for word in words_for(span.slot.field, value, plural) if word != original.lower()])
    if original[0].isupper():
        replacement = replacement.capitalize()
    text = caption.text[: span.start] + replacement + caption.text[span.end :]
    return Foil(text, span.start, span.start + len(replacement), original, replacement)


def _alternatives(
    caption: Caption, slot: Slot, scene: Scene, statistics: Statistics
) -> Sequence[tuple[str | int, float]]:
    """Return values that could stand in the slot, with weights: the likelier from the text alone, the more weight."""
    if slot.field == "kind":
        return list(statistics.kinds_on[scene.ground].items())
    if slot.field == "colour":
        usual = statistics.of_kind(caption.claim.phrases[slot.index].kind, "colours")
        return [(colour, usual.get(colour, 0.0) + 0.01) for colour in COLOURS]
    if slot.field == "relation":
        return [(name, 1.0) for name in _CONTRARY[str(slot.value)]]
    if slot.field == "count":
        return [(number, 1.0) for number in NUMBERS]
    values = {
        "size": [*SIZES],
        "pattern": [*PATTERNS],
        "ground": [*pairs(statistics.level.grounds)],
        "time": [*TIME_WORDS],
    }
    return [(value, 1.0) for value in values[slot.field]]
