"""Boxes in images: checked, cut out of a random crop, mirrored, scaled, as targets and as patches.

Source: docs/official/xvlm.md §3.5, §3.6.
"""

from __future__ import annotations

import math
import random
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

from PIL import Image

Corners = tuple[int, int, int, int]  # left, upper, right, lower
_SIDES = ("left", "right")


class BoxError(ValueError):
    """A box that is none; the message gives the reason."""


class Box(NamedTuple):
    """A box in pixels: its upper left corner, width and height."""

    x: float
    y: float
    w: float
    h: float

    @classmethod
    def of(cls, value: Any) -> Box:
        """A box [x, y, w, h] of a row, cut to whole pixels.

        Raises:
            BoxError: it is not four finite numbers.
        """
        return cls(*map(int, box_numbers(value)))

    def check(self, width: int, height: int) -> None:
        """Check that the box has an area and lies in an image.

        Raises:
            BoxError: it does not.
        """
        self.check_area()
        if self.x < 0 or self.y < 0 or self.x + self.w > width or self.y + self.h > height:
            raise BoxError(f"the box {list(self)} leaves the image of {width} x {height} pixels")

    def check_area(self) -> None:
        """Check that the box has an area.

        Raises:
            BoxError: it has none.
        """
        if self.w <= 0 or self.h <= 0:
            raise BoxError(f"the box {list(self)} has no area")

    def inside(self, crop: Corners) -> Box | None:
        """What ``crop`` keeps of the box, counted from its corner; None if that is nothing."""
        left, upper = max(self.x, crop[0]), max(self.y, crop[1])
        right, lower = min(self.x + self.w, crop[2]), min(self.y + self.h, crop[3])
        if right <= left or lower <= upper:
            return None
        return Box(left - crop[0], upper - crop[1], right - left, lower - upper)

    def mirrored(self, width: float) -> Box:
        """The box in the image of ``width`` pixels that is flipped from left to right."""
        return self._replace(x=width - self.x - self.w)

    def scaled(self, across: float, down: float) -> Box:
        """The box in the image that is ``across`` times as wide and ``down`` times as high."""
        return Box(self.x * across, self.y * down, self.w * across, self.h * down)

    def target(self, res: int) -> list[float]:
        """Centre, width and height as shares of an image of ``res`` x ``res`` pixels."""
        return [(self.x + self.w / 2) / res, (self.y + self.h / 2) / res, self.w / res, self.h / res]

    def patches(self, res: int, patch: int) -> list[int]:
        """Length P + 1: 1 for image token 0 and each patch (row by row) that the box touches, else 0."""
        side = res // patch
        columns, rows = _range(self.x, self.w, patch, side), _range(self.y, self.h, patch, side)
        return [1, *(int(row in rows and column in columns) for row in range(side) for column in range(side))]


def box_numbers(value: Any) -> tuple[float, float, float, float]:
    """The box [x, y, w, h] of a file, as it is.

    Raises:
        BoxError: it is not four finite numbers.
    """
    if not isinstance(value, list | tuple) or not all(type(each) in (int, float) for each in value) or len(value) != 4:
        raise BoxError(f"the box {value!r:.80} is not four numbers [x, y, w, h]")
    if not all(abs(each) < 1 << 31 for each in value):
        raise BoxError(f"the box {value!r:.80} has no pixels")
    x, y, w, h = map(float, value)
    return x, y, w, h


def _range(start: float, length: float, patch: int, side: int) -> range:
    first = min(math.floor(start / patch), side - 1)
    return range(first, max(first + 1, min(math.ceil((start + length) / patch), side)))


def crop_around(box: Box, width: int, height: int, rng: random.Random) -> Corners:
    """A random part of an image that holds a box which lies in the image."""
    x, y, w, h = map(int, box)
    left, upper = rng.randint(0, x), rng.randint(0, y)
    return left, upper, rng.randint(min(x + w, width), width), rng.randint(min(y + h, height), height)


def names_a_side(texts: Iterable[str | Sequence[str]]) -> bool:
    """Whether one of some texts, or lists of texts, says left or right: then no flip keeps it true."""
    each = (text for value in texts for text in ([value] if isinstance(value, str) else value))
    return any(side in text for text in each if isinstance(text, str) for side in _SIDES)


class View(NamedTuple):
    """A part of an image as a model sees it: cropped, perhaps flipped, resized to ``res`` x ``res``."""

    crop: Corners
    flip: bool
    res: int

    def image(self, image: Image.Image) -> Image.Image:
        """The part of an image."""
        part = image.crop(self.crop)
        if self.flip:
            part = part.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
        return part.resize((self.res, self.res), Image.Resampling.BICUBIC)

    def box(self, box: Box) -> Box:
        """A box, counted from the corner of the part (:meth:`Box.inside`), in that image."""
        width, height = self.crop[2] - self.crop[0], self.crop[3] - self.crop[1]
        box = box.mirrored(width) if self.flip else box
        return box.scaled(self.res / width, self.res / height)
