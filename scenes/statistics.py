"""How often what occurs: the skew that makes some words guessable and leaves others to the image.

Seed 0 is the demo's world as written below. Any other seed is the same language with other statistics: every weight is
multiplied by a log-normal factor of its own (docs/method.md §4 "Offline").
"""

from __future__ import annotations

import math
import random
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property

from scenes.levels import FULL, Level

SPREAD = 0.8  # standard deviation of the log factor for seeds other than 0
ANY_COLOUR = "red 1 yellow 1 green 1 blue 1 purple 1 pink 1 white 1 black 1 brown 1"
TOY_COLOUR = "red 2 yellow 2 green 2 blue 2 purple 2 pink 2 white 1 black 1"
MIXED = "plain 4 striped 3 dotted 3"
STRIPY = "plain 3 striped 2"
COMMON = "small 3 medium 4 big 3"
LITTLE = "small 1 medium 1"
SOCIAL = "1 3 2 3 3 3"
LONELY = "1 5 2 2 3 2"


@dataclass(frozen=True)
class Habit:
    """How one kind of thing tends to be; every string lists `value weight` pairs."""

    grounds: str
    colours: str
    sizes: str = COMMON
    patterns: str = "plain 1"
    counts: str = "1 1"
    sky: float = 0.0  # probability of being in the air


HABITS = {
    "house": Habit("grass 4 snow 3 road 3 sand 1", "red 3 white 3 yellow 2 blue 2 pink 1 brown 2", "medium 2 big 6"),
    "tent": Habit("grass 3 sand 3 snow 2", TOY_COLOUR, "medium 1 big 1", MIXED),
    "tree": Habit("grass 6 snow 4 road 3", "green 8 pink 1 brown 1 yellow 1", "medium 1 big 1", counts=LONELY),
    "flower": Habit("grass 6 table 2 sand 1", "red 3 pink 3 yellow 3 purple 3 white 2 blue 2", counts=SOCIAL),
    "mushroom": Habit("grass 5 snow 1 table 1", "red 8 brown 2 white 1", COMMON, "plain 1 dotted 8", SOCIAL),
    "car": Habit("road 9 grass 1 sand 1 snow 1", ANY_COLOUR, "small 1 medium 3 big 3"),
    "bus": Habit("road 9 snow 1", "red 3 yellow 3 blue 2 green 2 white 1", "medium 1 big 5", STRIPY),
    "boat": Habit("water 9 sand 1", TOY_COLOUR, patterns=STRIPY, counts=LONELY),
    "duck": Habit("water 6 grass 2 snow 1", "yellow 7 white 2 brown 2", LITTLE, counts=SOCIAL),
    "fish": Habit("water 9", TOY_COLOUR, patterns=MIXED, counts=SOCIAL),
    "ball": Habit("sand 4 grass 3 table 1 water 2 snow 1", TOY_COLOUR, patterns=MIXED, counts=LONELY),
    "parasol": Habit("sand 9 grass 2", TOY_COLOUR, "medium 1 big 2", MIXED),
    "kite": Habit("sand 4 grass 4 water 2 snow 1 road 1", TOY_COLOUR, patterns=MIXED, sky=0.95),
    "balloon": Habit("grass 2 road 2 table 3 snow 1", TOY_COLOUR, patterns=MIXED, counts=SOCIAL, sky=0.55),
    "cat": Habit("table 3 grass 3 road 2 snow 2 sand 1", "black 1 white 1 brown 1", COMMON, STRIPY, LONELY),
    "pear": Habit("table 8", "green 7 yellow 2 red 1", LITTLE, counts=SOCIAL),
    "banana": Habit("table 8", "yellow 9 green 1", LITTLE, counts=SOCIAL),
    "cup": Habit("table 9 sand 1", ANY_COLOUR, LITTLE, MIXED, SOCIAL),
    "star": Habit("snow 3 grass 2 water 2 road 2 table 1", "yellow 8 white 1 red 1 blue 1", counts=SOCIAL, sky=0.9),
    "bird": Habit("water 2 grass 2 snow 2 road 2 sand 2", TOY_COLOUR, LITTLE, counts=SOCIAL, sky=0.65),
    "snowman": Habit("snow 6", "white 1", "medium 1 big 1"),
}  # fmt: skip
KINDS = tuple(HABITS)
RIDERS = ("cat", "bird", "ball", "star", "duck")
BASES = ("house", "car", "bus", "tent", "boat")
RIDING = 0.45  # probability that a rider beside a base sits on it


def pairs(text: str) -> dict[str, float]:
    """Parse `"red 3 blue 1"` into a mapping of values to weights."""
    words = text.split()
    return dict(zip(words[::2], map(float, words[1::2]), strict=True))


class Statistics:
    """The weights of one seed, with draws from them and the probabilities behind the draws."""

    def __init__(self, seed: int = 0, level: Level = FULL) -> None:
        self.seed, self.level = seed, level
        self._distributions: dict[tuple[str, str], dict[str, float]] = {}
        self._factors: dict[tuple[str, str], float] = {}

    def distribution(self, name: str, text: str) -> dict[str, float]:
        """Return the normalised distribution called `name` whose unperturbed weights are `text`."""
        found = self._distributions.get((name, text))
        if found is None:
            weights = {value: base * self.factor(name, value) for value, base in pairs(text).items()}
            total = sum(weights.values())
            found = {value: weight / total for value, weight in weights.items()}
            self._distributions[name, text] = found
        return found

    def factor(self, name: str, value: str) -> float:
        """Return what this seed multiplies the weight of `value` in the distribution `name` by."""
        if self.seed == 0:
            return 1.0
        if (name, value) not in self._factors:
            self._factors[name, value] = math.exp(random.Random(f"{self.seed}/{name}/{value}").gauss(0.0, SPREAD))
        return self._factors[name, value]

    def draw(self, rng: random.Random, name: str, text: str) -> str:
        """Draw one value of the distribution `name`."""
        distribution = self.distribution(name, text)
        return rng.choices(list(distribution), list(distribution.values()))[0]

    def choose(self, rng: random.Random, name: str, options: tuple[str, ...]) -> str:
        """Draw one of `options`, which are equally likely under seed 0 and may hold spaces."""
        if len(options) == 1:
            return options[0]
        return rng.choices(options, [self.factor(name, option) for option in options])[0]

    def of_kind(self, kind: str, attribute: str) -> dict[str, float]:
        """Return P(attribute | kind); attribute is colours, sizes, patterns or counts."""
        return self.distribution(f"{kind}.{attribute}", getattr(HABITS[kind], attribute))

    @cached_property
    def kinds_on(self) -> dict[str, dict[str, float]]:
        """P(kind | ground) for every ground."""
        table: dict[str, dict[str, float]] = {}
        for ground in pairs(self.level.grounds):
            weights = {}
            for kind, habit in HABITS.items():
                weight = pairs(habit.grounds).get(ground, 0.0)
                weights[kind] = weight * self.factor(f"{kind}.grounds", ground)
            total = sum(weights.values())
            table[ground] = {kind: weight / total for kind, weight in weights.items() if weight}
        return table

    def ground_given(self, kinds: Iterable[str]) -> dict[str, float]:
        """Return P(ground | kinds) by Bayes' rule."""
        posterior = dict(self.distribution("ground", self.level.grounds))
        for kind in kinds:
            for ground in posterior:
                posterior[ground] *= self.kinds_on[ground].get(kind, 0.0)
        total = sum(posterior.values())
        return {ground: p / total for ground, p in posterior.items()}
