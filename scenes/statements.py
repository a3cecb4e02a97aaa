"""Statements about two images, true or false, in the manner of NLVR2."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass, replace

from scenes.levels import FULL
from scenes.model import Claim, Phrase, Scene
from scenes.regions import full_phrase
from scenes.statistics import KINDS, pairs
from scenes.words import COLOURS, NUMBERS, noun, noun_phrase

_NUMBER_WORDS = {1: "one", **NUMBERS, 4: "four", 5: "five", 6: "six"}
_TRIES = 200


@dataclass(frozen=True)
class Statement:
    """A sentence about a left and a right image, and whether it is true of them."""

    sentence: str
    label: bool


def statements(left: Scene, right: Scene, rng: random.Random) -> list[Statement]:
    """Return one true and one false statement, in random order."""
    found = [_with_label(left, right, label, rng) for label in (True, False)]
    rng.shuffle(found)
    return found


def _with_label(left: Scene, right: Scene, label: bool, rng: random.Random) -> Statement:
    for _ in range(_TRIES):
        statement = rng.choice(_TEMPLATES)(left, right, rng)
        if statement.label is label:
            return statement
    raise RuntimeError(f"no statement with the label {label} found for {left} and {right}")


def _phrase(left: Scene, right: Scene, rng: random.Random) -> Phrase:
    """Return something that is or might be in one of the images."""
    phrase = full_phrase(rng.choice((*left.things, *right.things)))
    if rng.random() < 0.5:
        phrase = replace(phrase, size=None, pattern=None)
    if rng.random() < 0.3:
        phrase = replace(phrase, colour=rng.choice(COLOURS))
    return phrase


def _shows(scene: Scene, phrase: Phrase) -> bool:
    return Claim((phrase,)).holds(scene)


def _number(scene: Scene, kind: str) -> int:
    return sum(thing.count for thing in scene.things if thing.kind == kind)


def _kind(left: Scene, right: Scene, rng: random.Random) -> str:
    return rng.choice((*(thing.kind for thing in (*left.things, *right.things)), rng.choice(KINDS)))


def _one_side(left: Scene, right: Scene, rng: random.Random) -> Statement:
    side = rng.choice(("left", "right"))
    phrase = _phrase(left, right, rng)
    sentence = f"The {side} image shows {noun_phrase(phrase)}."
    return Statement(sentence, _shows(left if side == "left" else right, phrase))


def _one_and_other(left: Scene, right: Scene, rng: random.Random) -> Statement:
    first, second = _phrase(left, right, rng), _phrase(left, right, rng)
    sentence = f"One image shows {noun_phrase(first)} and the other image shows {noun_phrase(second)}."
    straight = _shows(left, first) and _shows(right, second)
    return Statement(sentence, straight or (_shows(right, first) and _shows(left, second)))


def _both(left: Scene, right: Scene, rng: random.Random) -> Statement:
    kind = _kind(left, right, rng)
    sentence = f"There is at least one {noun(kind)} in both images."
    return Statement(sentence, _number(left, kind) > 0 and _number(right, kind) > 0)


def _exactly_one(left: Scene, right: Scene, rng: random.Random) -> Statement:
    kind = _kind(left, right, rng)
    sentence = f"Exactly one of the two images shows at least one {noun(kind)}."
    return Statement(sentence, (_number(left, kind) > 0) != (_number(right, kind) > 0))


def _total(left: Scene, right: Scene, rng: random.Random) -> Statement:
    kind = _kind(left, right, rng)
    number = rng.choice(tuple(_NUMBER_WORDS))
    verb = "is" if number == 1 else "are"
    sentence = f"There {verb} {_NUMBER_WORDS[number]} {noun(kind, number)} in total."
    return Statement(sentence, _number(left, kind) + _number(right, kind) == number)


def _time(left: Scene, right: Scene, rng: random.Random) -> Statement:
    outdoors = "table" not in (left.ground, right.ground)
    if not outdoors:  # the hour cannot be seen indoors
        return _one_side(left, right, rng)
    time = rng.choice(tuple(pairs(FULL.times)))
    words = {"day": "by day", "sunset": "at sunset", "night": "at night"}[time]
    return Statement(f"Both images were taken {words}.", left.time == right.time == time)


_TEMPLATES: tuple[Callable[[Scene, Scene, random.Random], Statement], ...] = (
    _one_side,
    _one_and_other,
    _both,
    _exactly_one,
    _total,
    _time,
)
