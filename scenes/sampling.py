"""Seeded drawing of scenes: what is there, and where."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import replace

from scenes.levels import FULL, Level
from scenes.model import Box, Scene, Thing, union
from scenes.statistics import BASES, HABITS, RIDERS, RIDING, Statistics

SIDE = {"small": 0.27, "medium": 0.36, "big": 0.46}  # longer side of a single thing
GROUP_SIDE = 0.25  # longer side of each member of a group
# width and height of each kind, the longer one being 1
ASPECT = {
    "house": (0.95, 1.0), "tent": (1.0, 0.82), "tree": (0.8, 1.0), "flower": (0.72, 1.0), "mushroom": (0.95, 1.0),
    "car": (1.0, 0.56), "bus": (1.0, 0.62), "boat": (0.9, 1.0), "duck": (1.0, 0.9), "fish": (1.0, 0.66),
    "ball": (1.0, 1.0), "parasol": (0.95, 1.0), "kite": (0.7, 1.0), "balloon": (0.66, 1.0), "cat": (0.8, 1.0),
    "pear": (0.72, 1.0), "banana": (1.0, 0.72), "cup": (1.0, 0.86), "star": (1.0, 0.96), "bird": (1.0, 0.8),
    "snowman": (0.66, 1.0),
}  # fmt: skip
_PATIENCE = 5000
SPLITS = ("test", "val", "train")  # in the order in which they are drawn


def _extent(thing: Thing, scale: float) -> tuple[float, float]:
    """Return the width and height of one object of the thing."""
    side = scale * (SIDE[thing.size] if thing.count == 1 else GROUP_SIDE)
    width, height = ASPECT[thing.kind]
    return side * width, side * height


def _boxes(thing: Thing, centre: float, bottom: float, scale: float) -> tuple[Box, ...]:
    """Place the objects of a thing around `centre`, the lowest one standing on `bottom`; the hindmost comes first."""
    width, height = _extent(thing, scale)
    if thing.count == 1:
        offsets = [(0.0, 0.0)]
    elif thing.count == 2:
        offsets = [(-0.47 * width, -0.06), (0.47 * width, 0.0)]
    else:
        offsets = [(-0.47 * width, -0.12), (0.47 * width, -0.14), (0.0, 0.0)]
    return tuple(
        Box(centre + dx - width / 2, bottom + dy - height, centre + dx + width / 2, bottom + dy) for dx, dy in offsets
    )


def _put(thing: Thing, centre: float, bottom: float, scale: float) -> Thing:
    """Place a thing and push it inside the image's margins."""
    box = union(_boxes(thing, centre, bottom, scale))
    dx = max(0.02 - box.x0, 0.0) + min(0.98 - box.x1, 0.0)
    dy = max(0.02 - box.y0, 0.0) + min(0.97 - box.y1, 0.0)
    boxes = _boxes(thing, centre + dx, bottom + dy, scale)
    return replace(thing, boxes=tuple(Box(*(round(value, 4) for value in box)) for box in boxes))


def _arrange(things: list[Thing], rng: random.Random, scale: float) -> list[Thing]:
    """Give every thing its boxes, from its place; things in the sky come last."""
    sky_taken = len(things) > 1 and any(thing.in_sky for thing in things)
    standing = rng.uniform(0.93, 0.96) if sky_taken else rng.uniform(0.84, 0.95)
    placed: list[Thing] = []
    for thing in sorted(things, key=lambda thing: thing.in_sky):
        x = {"left": 0.26, "right": 0.74}.get(thing.place.removeprefix("sky "), 0.5)
        if thing.place == "top":
            base = placed[0].box
            placed.append(_put(thing, base.centre + rng.uniform(-0.06, 0.06), base.y0 + 0.02, scale))
        elif thing.in_sky:
            roof = min((other.box.y0 for other in placed if not other.in_sky), default=0.55)
            centre = x + rng.uniform(-0.1, 0.1) * (x == 0.5)
            placed.append(_put(thing, centre, min(roof - 0.06, rng.uniform(0.40, 0.48)), scale))
        else:
            spread = 0.12 if x == 0.5 else 0.02
            placed.append(_put(thing, x + rng.uniform(-spread, spread), standing + rng.uniform(-0.01, 0.01), scale))
    return placed


def _places(kinds: list[str], rng: random.Random) -> list[str]:
    """Decide who stands left and right, who is in the air and who sits on whom."""
    if len(kinds) == 3:
        return ["left", "right", "sky"]
    aloft = [rng.random() < HABITS[kind].sky for kind in kinds]
    if len(kinds) == 1:
        return ["sky" if aloft[0] else "middle"]
    if all(aloft):
        return ["sky left", "sky right"]
    if any(aloft):
        return ["sky" if flies else "middle" for flies in aloft]
    if kinds[0] in BASES and kinds[1] in RIDERS and rng.random() < RIDING:
        return ["middle", "top"]
    return ["left", "right"]


def _kinds(ground: str, rng: random.Random, statistics: Statistics) -> list[str]:
    """Draw the kinds; what can fly or sit on the other comes after it."""
    on_ground = statistics.kinds_on[ground]
    number = int(statistics.draw(rng, "things", statistics.level.things))
    if number == 3:
        flying = {kind: p for kind, p in on_ground.items() if HABITS[kind].sky}
        standing = {kind: p for kind, p in on_ground.items() if HABITS[kind].sky < 0.6}
        kinds = rng.choices(list(standing), list(standing.values()), k=2)
        return kinds + rng.choices(list(flying), list(flying.values()))
    kinds = rng.choices(list(on_ground), list(on_ground.values()), k=number)
    return sorted(kinds, key=lambda kind: (HABITS[kind].sky, kind in RIDERS))


def _thing(kind: str, place: str, company: bool, rng: random.Random, statistics: Statistics) -> Thing:
    def attribute(name: str) -> str:
        distribution = statistics.of_kind(kind, name)
        return rng.choices(list(distribution), list(distribution.values()))[0]

    shares_height = company and place == "sky"
    count = 1 if place == "top" else int(attribute("counts"))
    size = "small" if place == "top" else attribute("sizes")
    if count > 1 or (shares_height and size == "big"):
        size = "medium"
    return Thing(kind, attribute("colours"), size, attribute("patterns"), count, place)


def sample_scene(rng: random.Random, statistics: Statistics) -> Scene:
    """Draw one scene; things of the same kind in it differ in colour."""
    while True:
        ground = statistics.draw(rng, "ground", statistics.level.grounds)
        time = "day" if ground == "table" else statistics.draw(rng, "time", statistics.level.times)
        kinds = _kinds(ground, rng, statistics)
        places = _places(kinds, rng)
        things = [_thing(k, p, len(kinds) > 1, rng, statistics) for k, p in zip(kinds, places, strict=True)]
        if places[:2] == ["left", "right"] or places[:2] == ["sky left", "sky right"]:
            things = _swap_sides(things, rng)
        if len({(thing.kind, thing.colour) for thing in things}) == len(things):
            placed = _arrange(things, rng, statistics.level.scale)
            return Scene(ground, time, tuple(placed), rng.randrange(statistics.level.looks))


def _swap_sides(things: list[Thing], rng: random.Random) -> list[Thing]:
    """Exchange the first two places half of the time, so that the order of kinds says nothing about sides."""
    if rng.random() < 0.5:
        return things
    first, second, *rest = things
    return [replace(second, place=first.place), replace(first, place=second.place), *rest]


def sample_splits(sizes: dict[str, int], seed: int, level: Level = FULL) -> dict[str, list[Scene]]:
    """Draw the scenes of every split; no specification (`Scene.key`) occurs twice, in one split or in two.

    `sizes` maps train, val and test to their numbers of images. Test and val do not depend on the size of train.

    Raises:
        ValueError: the level has fewer different scenes.
    """
    seen: set[tuple[object, ...]] = set()
    splits: dict[str, list[Scene]] = {}
    for split in SPLITS:
        fresh = _unseen(random.Random(f"scenes/{seed}/{split}"), Statistics(level=level), seen)
        splits[split] = [next(fresh) for _ in range(sizes[split])]
    return splits


def _unseen(rng: random.Random, statistics: Statistics, seen: set[tuple[object, ...]]) -> Iterator[Scene]:
    known = 0  # draws since the last new one
    while known < _PATIENCE:
        known += 1
        scene = sample_scene(rng, statistics)
        if scene.key not in seen:
            seen.add(scene.key)
            known = 0
            yield scene
    raise ValueError(f"no new scene in {_PATIENCE} draws after {len(seen)}: ask for fewer images, or another level")
