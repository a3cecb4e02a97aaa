"""A second opinion on the scenes: reads plain English and looks it up in a scene record, by brute force.

Knows the words and the geometry on its own account and imports nothing from the code under test.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import combinations, product
from typing import Any

Record = dict[str, Any]

NOUNS = {
    "house": "house home", "tent": "tent", "tree": "tree", "flower": "flower blossom", "mushroom": "mushroom",
    "car": "car", "bus": "bus", "boat": "boat sailboat", "duck": "duck", "fish": "fish", "ball": "ball",
    "parasol": "parasol", "kite": "kite", "balloon": "balloon", "cat": "cat kitten", "pear": "pear",
    "banana": "banana", "cup": "cup mug", "star": "star", "bird": "bird", "snowman": "snowman",
}  # fmt: skip
KIND_OF = {word: kind for kind, words in NOUNS.items() for word in words.split()}
KIND_OF |= {word + "s": kind for word, kind in KIND_OF.items() if word not in ("bus", "fish", "snowman")}
KIND_OF |= {"buses": "bus", "snowmen": "snowman"}
COLOURS = {"red", "yellow", "green", "blue", "purple", "pink", "white", "black", "brown"}
SIZE_OF = {"small": "small", "little": "small", "big": "big", "large": "big"}
PATTERN_OF = {"striped": "striped", "dotted": "dotted", "spotted": "dotted"}
NUMBER_OF = {"a": 1, "one": 1, "two": 2, "three": 3, "four": 4, "five": 5, "six": 6}
GROUND_OF = {
    "grass": "grass", "lawn": "grass", "sand": "sand", "beach": "sand", "snow": "snow", "water": "water",
    "lake": "water", "road": "road", "street": "road", "table": "table", "desk": "table",
}  # fmt: skip
TIME_OF = {"sunset": "sunset", "dusk": "sunset", "night": "night"}
RELATION_OF = {
    "left": "left", "right": "right", "above": "above", "over": "above", "below": "below", "under": "below",
    "beneath": "below",
}  # fmt: skip
_ADJECTIVES = "|".join([*COLOURS, *SIZE_OF, *PATTERN_OF])
_NOUN_PHRASE = re.compile(rf"\b(a|two|three) ((?:(?:{_ADJECTIVES}) )*)({'|'.join(KIND_OF)})\b")


def words(text: str) -> list[str]:
    """Lower-cased words without punctuation."""
    return re.findall(r"[a-z]+", text.lower())


def group_box(things: tuple[Record, ...]) -> list[float]:
    boxes = [box for thing in things for box in thing["boxes"]]
    return [min(b[0] for b in boxes), min(b[1] for b in boxes), max(b[2] for b in boxes), max(b[3] for b in boxes)]


def relation_holds(name: str, a: list[float], b: list[float]) -> bool:
    """Whether box `a` is left of, right of, above, below or on box `b`."""
    if name in ("left", "right"):
        overlap = min(a[3], b[3]) - max(a[1], b[1])
        shift = (b[0] + b[2] - a[0] - a[2]) / 2
        return overlap > 0.05 and (shift if name == "left" else -shift) > 0.2
    if name == "on":
        return abs(a[3] - b[1]) <= 0.03 and b[0] < (a[0] + a[2]) / 2 < b[2]
    upper, lower = (a, b) if name == "above" else (b, a)
    return upper[3] <= lower[1] + 0.05


def referents(scene: Record, number: int, adjectives: list[str], noun: str) -> Iterator[tuple[Record, ...]]:
    """Sets of things that `number adjectives noun` can mean; `a` is at least one, other numbers are exact."""
    fitting = [thing for thing in scene["things"] if describes(thing, adjectives, noun)]
    for size in range(1, len(fitting) + 1):
        for chosen in combinations(fitting, size):
            total = sum(thing["count"] for thing in chosen)
            if (number == 1 and size == 1) or (number == total and size in (1, len(fitting))):
                yield chosen


def describes(thing: Record, adjectives: list[str], noun: str) -> bool:
    for word in adjectives:
        stated = (word, SIZE_OF.get(word), PATTERN_OF.get(word))
        if not any(value in stated for value in (thing["colour"], thing["size"], thing["pattern"])):
            return False
    return bool(thing["kind"] == KIND_OF[noun])


def total(scene: Record, noun: str) -> int:
    return sum(thing["count"] for thing in scene["things"] if thing["kind"] == KIND_OF[noun])


def true_of(text: str, scene: Record) -> bool:
    """Whether a caption, phrase or `There is …` sentence is true of the scene."""
    text = text.lower()
    found = list(_NOUN_PHRASE.finditer(text))
    assert found, f"no noun phrase in {text!r}"
    outside = words(_NOUN_PHRASE.sub(" | ", text).replace("on the left", "left").replace("on the right", "right"))
    if any(scene["ground"] != GROUND_OF[word] for word in outside if word in GROUND_OF):
        return False
    if any(scene["time"] != TIME_OF[word] for word in outside if word in TIME_OF):
        return False
    choices = [referents(scene, NUMBER_OF[m[1]], m[2].split(), m[3]) for m in found]
    relations = list(_relations(text, found))
    return any(_all_hold(meant, relations) for meant in product(*choices))


def _relations(text: str, found: list[re.Match[str]]) -> Iterator[tuple[str, int, int]]:
    if len(found) > 1:
        between = words(text[found[0].end() : found[1].start()])
        named = [RELATION_OF[word] for word in between if word in RELATION_OF]
        if not named and between[-1:] == ["on"]:
            named = ["on"]
        yield from ((name, 0, 1) for name in named)
    if len(found) > 2 and words(text[found[2].end() :])[:1] in (["above"], ["overhead"]):
        yield ("above", 2, 0)
        yield ("above", 2, 1)


def _all_hold(meant: tuple[tuple[Record, ...], ...], relations: list[tuple[str, int, int]]) -> bool:
    ids = [id(thing) for things in meant for thing in things]
    boxes = [group_box(things) for things in meant]
    return len(set(ids)) == len(ids) and all(relation_holds(name, boxes[a], boxes[b]) for name, a, b in relations)


def answer(question: str, scene: Record) -> str:
    """Answer one of the questions that are asked about scenes."""
    asked = words(question)
    nouns = [word for word in asked if word in KIND_OF]
    things = {word: [t for t in scene["things"] if t["kind"] == KIND_OF[word]] for word in nouns}
    relation = next((RELATION_OF[word] for word in asked if word in RELATION_OF), None)
    if asked[:2] == ["what", "color"]:
        return str(things[nouns[0]][0]["colour"])
    if asked[:2] == ["how", "many"]:
        return str(total(scene, nouns[0]))
    if asked[:2] == ["what", "covers"]:
        return str(scene["ground"])
    if "time" in asked:
        return str(scene["time"])
    if "indoors" in asked:
        return "indoors" if scene["ground"] == "table" else "outdoors"
    if relation and asked[0] == "what":
        other = group_box(tuple(things[nouns[0]]))
        (kind,) = {t["kind"] for t in scene["things"] if relation_holds(relation, group_box((t,)), other)}
        return str(kind)
    if relation:
        first, second = (group_box(tuple(things[noun])) for noun in nouns)
        truth = relation_holds(relation, first, second)
    elif "any" in asked:
        truth = bool(things[nouns[0]])
    else:
        truth = things[nouns[0]][0]["pattern"] == PATTERN_OF[asked[-1]]
    return "yes" if truth else "no"


def statement_holds(sentence: str, left: Record, right: Record) -> bool:
    """Judge a statement about two images."""
    said = sentence.lower()
    nouns = [word for word in words(said) if word in KIND_OF]
    if said.startswith(("the left image", "the right image")):
        return true_of(said, left if "left image" in said else right)
    if said.startswith("one image shows"):
        first, second = said.removeprefix("one image shows ").split(" and the other image shows ")
        straight = true_of(first, left) and true_of(second, right)
        return straight or (true_of(first, right) and true_of(second, left))
    if "in both images" in said:
        return all(total(scene, nouns[0]) for scene in (left, right))
    if said.startswith("exactly one"):
        return sum(total(scene, nouns[0]) > 0 for scene in (left, right)) == 1
    if "in total" in said:
        number = next(NUMBER_OF[word] for word in words(said) if word in NUMBER_OF)
        return total(left, nouns[0]) + total(right, nouns[0]) == number
    time = TIME_OF.get(words(said)[-1], "day")
    return bool(left["time"] == right["time"] == time)
