"""Expressions that mean one object of a scene and no other, in the manner of RefCOCO+: by looks, never by place."""

from __future__ import annotations

import random
from itertools import product

from scenes.model import Phrase, Scene, Thing
from scenes.regions import full_phrase
from scenes.words import words_for


def expressions(scene: Scene, thing: Thing, rng: random.Random, number: int) -> list[str]:
    """Return up to `number` different expressions that describe `thing`, a single object, and no other object."""
    found = [phrase for phrase in _phrases(thing) if _number_described(scene, phrase) == 1]
    chosen = rng.sample(found, min(len(found), number))
    return list(dict.fromkeys(_words(phrase, rng) for phrase in chosen))


def _phrases(thing: Thing) -> list[Phrase]:
    """Return the kind with every selection of what else can be said of the thing."""
    full = full_phrase(thing, 1)
    options = [(value, None) if value is not None else (None,) for value in (full.colour, full.size, full.pattern)]
    return [Phrase(thing.kind, 1, *values) for values in product(*options)]


def _number_described(scene: Scene, phrase: Phrase) -> int:
    return sum(thing.count for thing in scene.things if phrase.describes(thing))


def _words(phrase: Phrase, rng: random.Random) -> str:
    said = (("size", phrase.size), ("pattern", phrase.pattern), ("colour", phrase.colour), ("kind", phrase.kind))
    return " ".join(rng.choice(words_for(name, value)) for name, value in said if value is not None)
