"""A small drawing kit: outlined shapes in the unit square, filled with a plain, striped or dotted paint."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache

from PIL import Image, ImageDraw

RGB = tuple[int, int, int]
Point = tuple[float, float]
Corners = tuple[float, float, float, float]

COLOURS: dict[str, RGB] = {
    "red": (218, 44, 46),
    "yellow": (252, 208, 44),
    "green": (34, 142, 66),
    "blue": (44, 104, 222),
    "purple": (134, 66, 178),
    "pink": (247, 136, 182),
    "white": (248, 248, 246),
    "black": (46, 46, 54),
    "brown": (138, 88, 48),
}
_LIGHT = {"yellow", "white", "pink"}
OUTLINE: RGB = (38, 34, 44)


def shade(colour: RGB, factor: float) -> RGB:
    """Darken (factor < 1) or lighten towards white (factor > 1)."""
    if factor <= 1:
        return tuple(round(c * factor) for c in colour)  # type: ignore[return-value]
    return tuple(round(c + (255 - c) * (factor - 1)) for c in colour)  # type: ignore[return-value]


@lru_cache(maxsize=256)
def paint(colour: str, pattern: str, side: int, period: int) -> Image.Image:
    """Return a square of `side` pixels covered with the pattern, which repeats every `period` pixels.

    Raises:
        ValueError: if the pattern is unknown.
    """
    square = Image.new("RGB", (side, side), COLOURS[colour])
    mark = shade(COLOURS[colour], 0.62 if colour in _LIGHT else 1.74)
    draw = ImageDraw.Draw(square)
    if pattern == "striped":
        for start in range(period // 3, side + side, period):
            draw.line((start, 0, start - side // 3, side), fill=mark, width=max(2, round(period * 0.36)))
    elif pattern == "dotted":
        radius = period * 0.27
        for row in range(side // period + 2):
            for column in range(side // period + 2):
                x = (column + 0.5 * (row % 2)) * period
                y = (row + 0.4) * period * 0.9
                draw.ellipse((x - radius, y - radius, x + radius, y + radius), fill=mark)
    elif pattern != "plain":
        raise ValueError(f"unknown pattern {pattern!r}; known: plain, striped, dotted")
    return square


class Pen:
    """Draws one object on a transparent tile of `width` x `height` pixels; coordinates are shares of the tile."""

    def __init__(self, width: int, height: int, colour: str, pattern: str, line: int, period: int) -> None:
        self.size = (width, height)
        self.tile = Image.new("RGBA", self.size)
        self.colour, self.name = COLOURS[colour], colour
        self.line = line
        self._draw = ImageDraw.Draw(self.tile)
        self._paint = paint(colour, pattern, max(width, height), period)

    def contrast(self) -> RGB:
        """Return a colour that stands out against the object's own."""
        return (70, 48, 44) if self.name in _LIGHT else (252, 240, 200)

    def ellipse(self, corners: Corners, fill: RGB | None = None) -> None:
        """Outlined ellipse; without `fill` it carries the object's own paint."""
        self.blob([corners], fill)

    def blob(self, ellipses: Sequence[Corners], fill: RGB | None = None) -> None:
        """Several ellipses that merge into one outlined shape."""
        mask = self._mask()
        for x0, y0, x1, y1 in (self._pixels(c) for c in ellipses):
            self._draw.ellipse((x0, y0, x1, y1), fill=OUTLINE)
            inset = self.line
            inner = (x0 + inset, y0 + inset, max(x0 + inset, x1 - inset), max(y0 + inset, y1 - inset))
            ImageDraw.Draw(mask).ellipse(inner, fill=255)
        self._fill(mask, fill)

    def polygon(self, points: Sequence[Point], fill: RGB | None = None) -> None:
        """Outlined polygon."""
        pixels = [self._point(p) for p in points]
        mask = self._mask()
        ImageDraw.Draw(mask).polygon(pixels, fill=255)
        self._fill(mask, fill)
        self._draw.line([*pixels, *pixels[:2]], fill=OUTLINE, width=self.line, joint="curve")

    def rectangle(self, corners: Corners, fill: RGB | None = None, radius: float = 0.0) -> None:
        """Outlined rectangle with rounded corners (`radius` as a share of the tile's width)."""
        box = self._pixels(corners)
        mask = self._mask()
        ImageDraw.Draw(mask).rounded_rectangle(box, radius * self.size[0], fill=255)
        self._fill(mask, fill)
        self._draw.rounded_rectangle(box, radius * self.size[0], outline=OUTLINE, width=self.line)

    def half_disc(self, corners: Corners, fill: RGB | None = None) -> None:
        """Outlined upper half of the ellipse in `corners`."""
        x0, y0, x1, y1 = corners
        arc = [math.pi * (1 + i / 24) for i in range(25)]
        self.polygon([_on_ellipse(x0, y0, x1, y1, angle) for angle in arc], fill)

    def dot(self, x: float, y: float, radius: float, fill: RGB) -> None:
        """Round spot without outline; the radius is a share of the tile's longer side."""
        px, py = self._point((x, y))
        r = radius * max(self.size)
        self._draw.ellipse((px - r, py - r, px + r, py + r), fill=fill)

    def eye(self, x: float, y: float, radius: float) -> None:
        """White of the eye with a pupil."""
        self.dot(x, y, radius, (255, 255, 255))
        self.dot(x, y, radius * 0.6, (24, 22, 28))

    def stroke(self, points: Sequence[Point], fill: RGB = OUTLINE, width: float = 1.0) -> None:
        """Open line through points; `width` in outline widths."""
        pixels = [self._point(p) for p in points]
        self._draw.line(pixels, fill=fill, width=max(1, round(width * self.line)), joint="curve")

    def gleam(self, corners: Corners) -> None:
        """Soft highlight."""
        light = Image.new("RGBA", self.size)
        ImageDraw.Draw(light).ellipse(self._pixels(corners), fill=(255, 255, 255, 95))
        self.tile.alpha_composite(light)

    def _mask(self) -> Image.Image:
        return Image.new("L", self.size)

    def _fill(self, mask: Image.Image, fill: RGB | None) -> None:
        self.tile.paste(self._paint.crop((0, 0, *self.size)) if fill is None else fill, (0, 0), mask)

    def _point(self, point: Point) -> Point:
        inset = self.line / 2
        width, height = self.size
        return inset + point[0] * (width - 1 - 2 * inset), inset + point[1] * (height - 1 - 2 * inset)

    def _pixels(self, corners: Corners) -> Corners:
        return (*self._point(corners[:2]), *self._point(corners[2:]))


def _on_ellipse(x0: float, y0: float, x1: float, y1: float, angle: float) -> Point:
    return (x0 + x1) / 2 + (x1 - x0) / 2 * math.cos(angle), (y0 + y1) / 2 + (y1 - y0) / 2 * math.sin(angle)
