"""Questions with ten answers each, in the manner of VQA v2."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import permutations

from scenes.model import Scene, Thing, related
from scenes.statistics import KINDS
from scenes.words import NOUNS, be, noun

ANNOTATORS = 10
_PER_KIND_OF_QUESTION = 2


@dataclass(frozen=True)
class Question:
    """`answer` is the most frequent of the ten `answers`; answer_type is yes/no, number or other."""

    question: str
    answer: str
    answers: tuple[str, ...]
    answer_type: str


def questions(scene: Scene, rng: random.Random) -> list[Question]:
    """Return questions of every kind that the scene allows, at most two of a kind."""
    found: list[Question] = []
    for ask in (_colour, _pattern, _number, _existence, _relation, _what, _ground, _time):
        asked = list({question.question: question for question in ask(scene, rng)}.values())
        found += rng.sample(asked, min(len(asked), _PER_KIND_OF_QUESTION))
    return found


def _unique(scene: Scene) -> list[Thing]:
    """Return the things that `the ball` or `the balls` can mean: no other thing is of the same kind."""
    kinds = Counter(thing.kind for thing in scene.things)
    return [thing for thing in scene.things if kinds[thing.kind] == 1]


def _the(thing: Thing) -> str:
    return "the " + noun(thing.kind, thing.count)


def _other(question: str, answer: str, rng: random.Random, synonyms: tuple[str, ...] = ()) -> Question:
    """Ten annotators, up to three of whom prefer a synonym."""
    rest = [rng.choice(synonyms) for _ in range(rng.randint(0, 3))] if synonyms else []
    return Question(question, answer, (*[answer] * (ANNOTATORS - len(rest)), *rest), "other")


def _yes_no(question: str, truth: bool) -> Question:
    answer = "yes" if truth else "no"
    return Question(question, answer, (answer,) * ANNOTATORS, "yes/no")


def _colour(scene: Scene, rng: random.Random) -> Iterator[Question]:
    for thing in _unique(scene):
        yield _other(f"What color {be(thing.count)} {_the(thing)}?", thing.colour, rng)


def _pattern(scene: Scene, rng: random.Random) -> Iterator[Question]:
    for thing in _unique(scene):
        pattern = rng.choice(("striped", "dotted"))
        yield _yes_no(f"{be(thing.count).capitalize()} {_the(thing)} {pattern}?", thing.pattern == pattern)


def _number(scene: Scene, rng: random.Random) -> Iterator[Question]:
    present = Counter[str]()
    for thing in scene.things:
        present[thing.kind] += thing.count
    for kind, number in present.items():
        answer = str(number)
        yield Question(f"How many {noun(kind, 2)} are there?", answer, (answer,) * ANNOTATORS, "number")


def _existence(scene: Scene, rng: random.Random) -> Iterator[Question]:
    present = [thing.kind for thing in scene.things]
    for kind in (rng.choice(present), rng.choice(KINDS)):
        yield _yes_no(f"Is there any {noun(kind)} in the picture?", kind in present)


def _relation(scene: Scene, rng: random.Random) -> Iterator[Question]:
    words = {"left": "to the left of", "right": "to the right of", "above": "above", "below": "below"}
    for subject, other in permutations(_unique(scene), 2):
        name = rng.choice(tuple(words))
        question = f"{be(subject.count).capitalize()} {_the(subject)} {words[name]} {_the(other)}?"
        yield _yes_no(question, related(name, subject.box, other.box))


def _what(scene: Scene, rng: random.Random) -> Iterator[Question]:
    words = {"left": "to the left of", "right": "to the right of", "above": "above", "below": "below"}
    for name, word in words.items():
        for thing in _unique(scene):
            there = {other.kind for other in scene.things if related(name, other.box, thing.box)}
            if len(there) == 1:
                kind = there.pop()
                synonyms = tuple(forms[0] for forms in NOUNS[kind][1:])
                yield _other(f"What is {word} {_the(thing)}?", noun(kind), rng, synonyms)


def _ground(scene: Scene, rng: random.Random) -> Iterator[Question]:
    if scene.ground == "table":
        yield _other("Is this indoors or outdoors?", "indoors", rng, ("inside",))
    else:
        yield _other("Is this indoors or outdoors?", "outdoors", rng, ("outside",))
        yield _other("What covers the ground?", scene.ground, rng)


def _time(scene: Scene, rng: random.Random) -> Iterator[Question]:
    if scene.ground != "table":
        yield _other("What time of day is it?", scene.time, rng)
