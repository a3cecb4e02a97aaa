"""Hypotheses that an image entails, contradicts or leaves open, in the manner of SNLI-VE."""

from __future__ import annotations

import random
from dataclasses import dataclass, replace
from itertools import permutations

from scenes.model import Claim, Phrase, Relation, Scene, related
from scenes.regions import full_phrase
from scenes.statistics import KINDS
from scenes.words import COLOURS, NUMBERS, PATTERNS, PLACES, SIZES, be, noun, noun_phrase

# what no image of a scene can settle; {the} is a thing with its article, {is} its verb
UNKNOWABLE = (
    "{The} {is} for sale.",
    "{The} {is} very old.",
    "{The} {is} new.",
    "{The} {is} a gift for a child.",
    "Somebody is looking for {the}.",
    "{The} {is} from another country.",
    "It rained the day before.",
)
_RELATION_WORDS = {"left": "to the left of", "right": "to the right of", "above": "above", "below": "below"}


@dataclass(frozen=True)
class Entailment:
    """A hypothesis and its relation to the image: entailment, neutral or contradiction."""

    hypothesis: str
    label: str


def entailments(scene: Scene, rng: random.Random) -> list[Entailment]:
    """Return one hypothesis per label, in random order."""
    found = [
        Entailment(sentence(_true_claim(scene, rng)), "entailment"),
        Entailment(sentence(_false_claim(scene, rng)), "contradiction"),
        Entailment(_unknowable(scene, rng), "neutral"),
    ]
    rng.shuffle(found)
    return found


def sentence(claim: Claim) -> str:
    """Say a claim with one phrase, or two phrases and a relation, in plain words."""
    first = claim.phrases[0]
    text = f"There {be(first.count)} {noun_phrase(first)}"
    for relation in claim.relations:
        text += f" {_RELATION_WORDS[relation.name]} {noun_phrase(claim.phrases[relation.object])}"
    if claim.ground is not None:
        text += " {} {}".format(*PLACES[claim.ground][0])
    return text + "."


def _true_claim(scene: Scene, rng: random.Random) -> Claim:
    """Return less than what the image shows: never false, never a whole caption."""
    pairs = [
        (name, subject, other)
        for subject, other in permutations(scene.things, 2)
        for name in _RELATION_WORDS
        if related(name, subject.box, other.box)
    ]
    if pairs and rng.random() < 0.4:
        name, subject, other = rng.choice(pairs)
        phrases = (_weaker(full_phrase(subject), rng), _weaker(full_phrase(other), rng))
        return Claim(phrases, (Relation(name, 0, 1),))
    thing = rng.choice(scene.things)
    ground = scene.ground if not thing.in_sky and thing.place != "top" and rng.random() < 0.5 else None
    return Claim((_weaker(full_phrase(thing), rng),), ground=ground)


def _weaker(phrase: Phrase, rng: random.Random) -> Phrase:
    dropped = {name: None for name in ("colour", "size", "pattern") if rng.random() < 0.5}
    return replace(phrase, **dropped)  # type: ignore[arg-type]  # every dropped field may be None


def _false_claim(scene: Scene, rng: random.Random) -> Claim:
    """Change one thing in a true claim until the image contradicts it."""
    while True:
        claim = _changed(_true_claim(scene, rng), rng)
        if not claim.holds(scene):
            return claim


def _changed(claim: Claim, rng: random.Random) -> Claim:
    index = rng.randrange(len(claim.phrases))
    phrase = claim.phrases[index]
    change = rng.choice(("kind", "count", "colour", "size", "pattern", "relation", "ground"))
    if change == "relation":
        if not claim.relations:
            return claim
        relation = claim.relations[0]
        contrary = {"left": "right", "right": "left", "above": "below", "below": "above"}[relation.name]
        return replace(claim, relations=(replace(relation, name=contrary),))
    if change == "ground":
        return claim if claim.ground is None else replace(claim, ground=rng.choice(tuple(PLACES)))
    values = {
        "kind": KINDS,
        "count": (1, *NUMBERS),
        "colour": COLOURS,
        "size": tuple(SIZES),
        "pattern": tuple(PATTERNS),
    }
    if change in ("size", "pattern") and getattr(phrase, change) is None:
        return claim  # saying more of a plain or middle-sized thing would only look like an oversight
    changed = replace(phrase, **{change: rng.choice(values[change])})  # type: ignore[arg-type]
    phrases = (*claim.phrases[:index], changed, *claim.phrases[index + 1 :])
    return replace(claim, phrases=phrases)


def _unknowable(scene: Scene, rng: random.Random) -> str:
    thing = rng.choice(scene.things)
    the = "the " + noun(thing.kind, thing.count)
    template = rng.choice([text for text in UNKNOWABLE if thing.count == 1 or " a gift" not in text])
    return template.format(The=the.capitalize(), the=the, **{"is": be(thing.count)})
