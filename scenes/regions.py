"""Boxes with phrases, as in Visual Genome: every thing, every member of a group, and every pair with its relation."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import permutations

from scenes.model import Box, Phrase, Scene, Thing, related, union
from scenes.words import noun_phrase

_RELATION_WORDS = {
    "left": "to the left of",
    "right": "to the right of",
    "above": "above",
    "below": "below",
    "on": "on",
}


@dataclass(frozen=True)
class Region:
    """A phrase and the box that it describes."""

    phrase: str
    box: Box


def full_phrase(thing: Thing, count: int | None = None) -> Phrase:
    """Return everything that can be said of a thing; `count` 1 speaks of one member of a group."""
    size = thing.size if thing.size != "medium" else None
    pattern = thing.pattern if thing.pattern != "plain" else None
    return Phrase(thing.kind, count or thing.count, thing.colour, size, pattern)


def regions(scene: Scene) -> list[Region]:
    """Return all regions of a scene: things first, then members of groups, then pairs."""
    found = [Region(noun_phrase(full_phrase(thing)), thing.box) for thing in scene.things]
    for thing in scene.things:
        if thing.count > 1:
            found += [Region(noun_phrase(full_phrase(thing, 1)), box) for box in thing.boxes]
    for subject, other in permutations(scene.things, 2):
        # a rider is both on and above its base: the closer word comes first
        names = [name for name in ("on", "left", "right", "above", "below") if related(name, subject.box, other.box)]
        if names:
            words = f"{noun_phrase(full_phrase(subject))} {_RELATION_WORDS[names[0]]} {noun_phrase(full_phrase(other))}"
            found.append(Region(words, union((subject.box, other.box))))
    return found
