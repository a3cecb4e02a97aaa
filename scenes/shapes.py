"""How each kind of thing looks; every drawing fills its tile from edge to edge."""

from __future__ import annotations

import math
from collections.abc import Callable

from scenes.pen import OUTLINE, Pen, shade

_WOOD = (121, 82, 48)
_STEM = (58, 128, 58)
_CREAM = (250, 238, 210)
_GLASS = (196, 226, 244)
_LAMP = (255, 226, 130)
_SLATE = (104, 100, 116)


def house(pen: Pen) -> None:
    pen.rectangle((0.70, 0.06, 0.82, 0.4), (150, 96, 84))
    pen.rectangle((0.08, 0.42, 0.92, 1.0))
    pen.polygon([(0, 0.46), (0.5, 0), (1, 0.46)], _SLATE)
    pen.rectangle((0.42, 0.64, 0.60, 1.0), _WOOD)
    pen.rectangle((0.16, 0.56, 0.34, 0.76), _LAMP)
    pen.rectangle((0.68, 0.56, 0.86, 0.76), _LAMP)


def tent(pen: Pen) -> None:
    pen.polygon([(0, 1), (0.5, 0), (1, 1)])
    pen.polygon([(0.36, 1), (0.5, 0.48), (0.64, 1)], (72, 54, 52))


def tree(pen: Pen) -> None:
    pen.polygon([(0.43, 0.6), (0.57, 0.6), (0.62, 1), (0.38, 1)], _WOOD)
    pen.blob([(0.0, 0.26, 0.58, 0.74), (0.42, 0.26, 1.0, 0.74), (0.16, 0.0, 0.84, 0.56)])


def flower(pen: Pen) -> None:
    pen.stroke([(0.5, 0.4), (0.5, 1)], _STEM, 3)
    pen.polygon([(0.5, 0.92), (0.12, 0.70), (0.22, 0.88)], _STEM)
    pen.polygon([(0.5, 0.84), (0.88, 0.64), (0.76, 0.84)], _STEM)
    petals = []
    for i in range(6):
        x, y = 0.5 + 0.30 * math.sin(i * math.pi / 3), 0.33 - 0.2 * math.cos(i * math.pi / 3)
        petals.append((x - 0.24, y - 0.165, x + 0.24, y + 0.165))
    pen.blob(petals)
    centre = (150, 92, 40) if pen.name == "yellow" else (252, 208, 60)
    pen.ellipse((0.34, 0.22, 0.66, 0.44), centre)


def mushroom(pen: Pen) -> None:
    pen.polygon([(0.36, 0.5), (0.64, 0.5), (0.70, 1), (0.30, 1)], _CREAM)
    pen.half_disc((0, 0, 1, 1.16))


def car(pen: Pen) -> None:
    pen.polygon([(0.20, 0.44), (0.33, 0.0), (0.70, 0.0), (0.84, 0.44)])
    pen.polygon([(0.29, 0.40), (0.37, 0.1), (0.50, 0.1), (0.50, 0.40)], _GLASS)
    pen.polygon([(0.55, 0.40), (0.55, 0.1), (0.67, 0.1), (0.75, 0.40)], _GLASS)
    pen.rectangle((0.0, 0.38, 1.0, 0.84), radius=0.08)
    pen.ellipse((0.9, 0.46, 0.98, 0.6), _LAMP)
    for x in (0.14, 0.66):
        pen.ellipse((x, 0.62, x + 0.21, 1.0), (44, 42, 48))
        pen.ellipse((x + 0.065, 0.74, x + 0.145, 0.88), (206, 206, 210))


def bus(pen: Pen) -> None:
    pen.rectangle((0.0, 0.0, 1.0, 0.88), radius=0.07)
    for x in (0.06, 0.28, 0.50, 0.72):
        pen.rectangle((x, 0.14, x + 0.18, 0.44), _GLASS)
    for x in (0.14, 0.66):
        pen.ellipse((x, 0.68, x + 0.2, 1.0), (44, 42, 48))
        pen.ellipse((x + 0.06, 0.78, x + 0.14, 0.9), (206, 206, 210))


def boat(pen: Pen) -> None:
    pen.rectangle((0.47, 0.0, 0.52, 0.74), _WOOD)
    pen.polygon([(0.56, 0.06), (0.56, 0.64), (0.98, 0.64)])
    pen.polygon([(0.43, 0.14), (0.43, 0.64), (0.08, 0.64)])
    pen.polygon([(0.0, 0.72), (1.0, 0.72), (0.82, 1.0), (0.18, 1.0)])


def duck(pen: Pen) -> None:
    beak = (240, 130, 36)
    pen.polygon([(0.80, 0.2), (1.0, 0.30), (0.80, 0.38)], beak)
    pen.blob([(0.0, 0.40, 0.82, 1.0), (0.48, 0.0, 0.88, 0.48), (0.0, 0.34, 0.3, 0.74)])
    pen.ellipse((0.18, 0.54, 0.56, 0.84), shade(pen.colour, 0.85))
    pen.eye(0.72, 0.19, 0.05)


def fish(pen: Pen) -> None:
    pen.polygon([(0.28, 0.5), (0.0, 0.08), (0.0, 0.92)], shade(pen.colour, 0.8))
    pen.polygon([(0.42, 0.2), (0.62, 0.0), (0.72, 0.22)], shade(pen.colour, 0.8))
    pen.ellipse((0.18, 0.12, 1.0, 1.0))
    pen.eye(0.84, 0.44, 0.055)
    pen.stroke([(0.98, 0.62), (0.90, 0.66), (0.84, 0.65)])


def ball(pen: Pen) -> None:
    pen.ellipse((0, 0, 1, 1))
    pen.gleam((0.18, 0.12, 0.46, 0.36))


def parasol(pen: Pen) -> None:
    pen.rectangle((0.48, 0.3, 0.53, 1.0), _WOOD)
    pen.half_disc((0, 0, 1, 1.06))
    for x in (0.33, 0.67):
        pen.stroke([(0.5, 0.02), (x, 0.53)])
    for x0, x1 in ((0.0, 0.33), (0.33, 0.67), (0.67, 1.0)):
        pen.polygon([(x0, 0.52), (x1, 0.52), ((x0 + x1) / 2, 0.6)])


def kite(pen: Pen) -> None:
    tail = [(0.5 + 0.1 * math.sin(i * 1.1), 0.74 + 0.026 * i) for i in range(11)]
    pen.stroke(tail, OUTLINE, 1.3)
    for x, y in (tail[4], tail[8]):
        bow = [(x - 0.12, y - 0.035), (x + 0.12, y + 0.035), (x + 0.12, y - 0.035), (x - 0.12, y + 0.035)]
        pen.polygon(bow, shade(pen.colour, 0.85))
    pen.polygon([(0.5, 0.0), (1.0, 0.32), (0.5, 0.76), (0.0, 0.32)])
    pen.stroke([(0.5, 0.0), (0.5, 0.76)])
    pen.stroke([(0.0, 0.32), (1.0, 0.32)])


def balloon(pen: Pen) -> None:
    pen.stroke([(0.5, 0.72), (0.44, 0.82), (0.54, 0.9), (0.48, 1.0)], OUTLINE, 1.3)
    pen.polygon([(0.5, 0.68), (0.38, 0.79), (0.62, 0.79)], shade(pen.colour, 0.8))
    pen.ellipse((0, 0, 1, 0.74))
    pen.gleam((0.2, 0.1, 0.44, 0.3))


def cat(pen: Pen) -> None:
    pen.stroke([(0.74, 0.94), (0.92, 0.9), (0.95, 0.72), (0.88, 0.6)], OUTLINE, 5.5)
    pen.stroke([(0.74, 0.94), (0.92, 0.9), (0.95, 0.72), (0.88, 0.62)], pen.colour, 3.2)
    pen.ellipse((0.14, 0.44, 0.82, 1.0))
    pen.polygon([(0.06, 0.3), (0.08, 0.0), (0.40, 0.16)])
    pen.polygon([(0.90, 0.3), (0.88, 0.0), (0.56, 0.16)])
    pen.ellipse((0.02, 0.08, 0.94, 0.62))
    pen.eye(0.30, 0.32, 0.06)
    pen.eye(0.66, 0.32, 0.06)
    pen.polygon([(0.42, 0.42), (0.54, 0.42), (0.48, 0.49)], (240, 150, 160))
    whisker = pen.contrast() if pen.name == "black" else OUTLINE
    for y in (0.44, 0.5):
        pen.stroke([(0.0, y), (0.26, 0.47)], whisker, 0.8)
        pen.stroke([(0.96, y), (0.70, 0.47)], whisker, 0.8)


def pear(pen: Pen) -> None:
    pen.stroke([(0.5, 0.18), (0.56, 0.0)], _WOOD, 2.5)
    pen.polygon([(0.56, 0.1), (0.74, 0.0), (0.92, 0.06), (0.76, 0.15)], _STEM)
    pen.blob([(0.24, 0.12, 0.76, 0.62), (0.0, 0.40, 1.0, 1.0), (0.12, 0.26, 0.88, 0.84)])
    pen.gleam((0.18, 0.52, 0.38, 0.74))


def banana(pen: Pen) -> None:
    outer = [(0.5 + 0.5 * math.cos(a), 0.10 + 0.9 * math.sin(a)) for a in _angles(-0.05, math.pi * 0.98)]
    inner = [(0.44 + 0.36 * math.cos(a), -0.02 + 0.58 * math.sin(a)) for a in _angles(math.pi * 0.94, 0.1)]
    pen.polygon(outer + inner)
    pen.polygon([(0.0, 0.16), (0.09, 0.13), (0.08, 0.0), (0.01, 0.0)], _WOOD)
    pen.polygon([(1.0, 0.08), (0.9, 0.08), (0.93, 0.0), (1.0, 0.0)], (84, 62, 40))


def cup(pen: Pen) -> None:
    pen.blob([(0.56, 0.2, 1.0, 0.76)], pen.colour)
    pen.blob([(0.66, 0.32, 0.88, 0.64)], (222, 214, 204))
    pen.polygon([(0.0, 0.1), (0.76, 0.1), (0.68, 1.0), (0.08, 1.0)])
    pen.ellipse((0.0, 0.0, 0.76, 0.2), (96, 62, 44))


def star(pen: Pen) -> None:
    points = []
    for i in range(10):
        radius = 1.0 if i % 2 == 0 else 0.46
        angle = i * math.pi / 5
        points.append((0.5 + 0.525 * radius * math.sin(angle), 0.553 - 0.553 * radius * math.cos(angle)))
    pen.polygon([(min(max(x, 0.0), 1.0), y) for x, y in points])


def bird(pen: Pen) -> None:
    pen.polygon([(0.2, 0.56), (0.0, 0.40), (0.0, 0.78)], shade(pen.colour, 0.8))
    pen.polygon([(0.86, 0.36), (1.0, 0.48), (0.86, 0.56)], (240, 140, 36))
    pen.blob([(0.1, 0.38, 0.82, 1.0), (0.58, 0.24, 0.92, 0.70)])
    pen.polygon([(0.26, 0.62), (0.22, 0.0), (0.60, 0.58), (0.46, 0.78)], shade(pen.colour, 0.85))
    pen.eye(0.79, 0.40, 0.045)


def snowman(pen: Pen) -> None:
    pen.ellipse((0.0, 0.52, 1.0, 1.0))
    pen.ellipse((0.14, 0.18, 0.86, 0.60))
    pen.rectangle((0.16, 0.52, 0.84, 0.60), (206, 52, 54), 0.04)
    pen.rectangle((0.14, 0.17, 0.86, 0.23), (56, 52, 62))
    pen.rectangle((0.26, 0.0, 0.74, 0.19), (56, 52, 62))
    for x in (0.36, 0.64):
        pen.dot(x, 0.32, 0.035, OUTLINE)
    pen.polygon([(0.46, 0.38), (0.46, 0.45), (0.8, 0.44)], (240, 132, 40))
    for y in (0.70, 0.82):
        pen.dot(0.5, y, 0.035, OUTLINE)


def _angles(start: float, end: float, steps: int = 20) -> list[float]:
    return [start + (end - start) * i / steps for i in range(steps + 1)]


SHAPES: dict[str, Callable[[Pen], None]] = {
    shape.__name__: shape
    for shape in (
        house, tent, tree, flower, mushroom, car, bus, boat, duck, fish, ball, parasol, kite, balloon, cat, pear,
        banana, cup, star, bird, snowman,
    )
}  # fmt: skip
