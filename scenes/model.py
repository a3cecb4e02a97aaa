"""What a scene is, what a sentence claims about it, and whether the claim holds."""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import product
from typing import NamedTuple


class Box(NamedTuple):
    """Corners as shares of the image's side, origin at the top left."""

    x0: float
    y0: float
    x1: float
    y1: float

    @property
    def centre(self) -> float:
        """Horizontal centre."""
        return (self.x0 + self.x1) / 2


def union(boxes: tuple[Box, ...]) -> Box:
    """Return the smallest box around `boxes`."""
    return Box(*(min(b[i] for b in boxes) for i in (0, 1)), *(max(b[i] for b in boxes) for i in (2, 3)))


@dataclass(frozen=True)
class Thing:
    """One object, or a group of `count` equal objects; `boxes` holds one box per object."""

    kind: str
    colour: str
    size: str
    pattern: str
    count: int
    place: str
    boxes: tuple[Box, ...] = ()

    @property
    def box(self) -> Box:
        """Box around the whole group."""
        return union(self.boxes)

    @property
    def in_sky(self) -> bool:
        """Whether it hangs or flies above the ground."""
        return self.place.startswith("sky")


@dataclass(frozen=True)
class Scene:
    """An image's content; `look` picks the variant of the backdrop and carries no meaning."""

    ground: str
    time: str
    things: tuple[Thing, ...]
    look: int = 0

    @property
    def key(self) -> tuple[object, ...]:
        """Content without pixel positions: equal keys are the same scene specification."""
        return (self.ground, self.time, tuple(replace(thing, boxes=()) for thing in self.things))


@dataclass(frozen=True)
class Phrase:
    """What a noun phrase says; None means unsaid. `count` 1 is `a`: at least one; 2 and 3 are exact."""

    kind: str
    count: int
    colour: str | None = None
    size: str | None = None
    pattern: str | None = None

    def describes(self, thing: Thing) -> bool:
        """Whether everything but the number is true of `thing`."""
        return (
            self.kind == thing.kind
            and self.colour in (None, thing.colour)
            and self.size in (None, thing.size)
            and self.pattern in (None, thing.pattern)
        )

    def referents(self, scene: Scene) -> list[tuple[Thing, ...]]:
        """Return what the phrase can mean: one thing, or all things of that description taken together."""
        things = [thing for thing in scene.things if self.describes(thing)]
        found: list[tuple[Thing, ...]] = [(thing,) for thing in things if self.count in (1, thing.count)]
        if len(things) > 1 and sum(thing.count for thing in things) == self.count:
            found.append(tuple(things))
        return found


@dataclass(frozen=True)
class Relation:
    """`name` is left, right, above, below or on; subject and object are indices of phrases."""

    name: str
    subject: int
    object: int


_SIDE_GAP = 0.2  # centres nearer than this are neither left nor right of each other
_OVERLAP = 0.05  # levels may overlap by that much and still count as one above the other
_TOUCH = 0.03  # largest distance between what sits and what it sits on


def related(name: str, subject: Box, other: Box) -> bool:
    """Whether the geometry of two boxes bears out the relation `name`.

    Raises:
        ValueError: if the relation is unknown.
    """
    if name == "right":
        return related("left", other, subject)
    if name == "below":
        return related("above", other, subject)
    if name == "left":
        same_level = subject.y0 < other.y1 - _OVERLAP and other.y0 < subject.y1 - _OVERLAP
        return same_level and other.centre - subject.centre > _SIDE_GAP
    if name == "above":
        return subject.y1 <= other.y0 + _OVERLAP
    if name == "on":
        touching = abs(subject.y1 - other.y0) <= _TOUCH
        return touching and other.x0 < subject.centre < other.x1
    raise ValueError(f"unknown relation {name!r}; known: left, right, above, below, on")


@dataclass(frozen=True)
class Slot:
    """The part of a claim that one word states: `field` of phrase or relation number `index`."""

    field: str
    index: int
    value: str | int


@dataclass(frozen=True)
class Claim:
    """What a sentence asserts about an image."""

    phrases: tuple[Phrase, ...]
    relations: tuple[Relation, ...] = ()
    ground: str | None = None
    time: str | None = None

    def holds(self, scene: Scene) -> bool:
        """Whether different things of the scene can be found for all phrases so that everything said is true."""
        if self.ground not in (None, scene.ground) or self.time not in (None, scene.time):
            return False
        return any(map(self._fits, product(*(phrase.referents(scene) for phrase in self.phrases))))

    def _fits(self, meant: tuple[tuple[Thing, ...], ...]) -> bool:
        things = [thing for referent in meant for thing in referent]
        if len(set(things)) < len(things):
            return False
        boxes = [union(tuple(thing.box for thing in referent)) for referent in meant]
        return all(related(r.name, boxes[r.subject], boxes[r.object]) for r in self.relations)

    def with_value(self, slot: Slot, value: str | int) -> Claim:
        """Return the claim with `value` in place of what `slot` states."""
        if slot.field == "ground":
            return replace(self, ground=str(value))
        if slot.field == "time":
            return replace(self, time=str(value))
        if slot.field == "relation":
            relations = list(self.relations)
            relations[slot.index] = replace(relations[slot.index], name=str(value))
            return replace(self, relations=tuple(relations))
        phrases = list(self.phrases)
        # mypy cannot see through a computed field name
        phrases[slot.index] = replace(phrases[slot.index], **{slot.field: value})  # type: ignore[arg-type]
        return replace(self, phrases=tuple(phrases))


@dataclass(frozen=True)
class Span:
    """Characters [start, end) of a caption: one word that states `slot`.

    `salient` is true where the rest of the sentence does not give the word away.
    """

    start: int
    end: int
    slot: Slot
    salient: bool


@dataclass(frozen=True)
class Caption:
    """A sentence, what it claims, and its words that speak of the image."""

    text: str
    claim: Claim
    spans: tuple[Span, ...]

    @property
    def salient(self) -> tuple[Span, ...]:
        """Spans of the words that only the image determines."""
        return tuple(span for span in self.spans if span.salient)
