"""RandAugment as METER and ViLT use it: n operations of 14, drawn with replacement, all at magnitude m.

Source: docs/official/meter.md §3.7.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageEnhance, ImageOps

_AFFINE = Image.Transform.AFFINE


def _posterize(image: Image.Image, value: float) -> Image.Image:
    return ImageOps.posterize(image, max(1, int(value)))


def _solarize_add(image: Image.Image, value: float) -> Image.Image:
    brighter = np.clip(np.asarray(image).astype(np.int16) + int(value), 0, 255).astype(np.uint8)
    return ImageOps.solarize(Image.fromarray(brighter), 128)


def _affine(image: Image.Image, coefficients: tuple[float, ...]) -> Image.Image:
    return image.transform(image.size, _AFFINE, coefficients)  # nearest neighbour, black fill


class Operation(NamedTuple):
    """One operation: `apply(image, value)`, the range of its value, and whether the value's sign is drawn."""

    name: str
    apply: Callable[[Image.Image, float], Image.Image]
    low: float
    high: float
    signed: bool = False

    def value(self, magnitude: float) -> float:
        """The value at `magnitude` on the scale 0 to 30."""
        return magnitude / 30 * (self.high - self.low) + self.low

    def __call__(self, image: Image.Image, value: float, rng: random.Random) -> Image.Image:
        """Apply with this value, which is negated where the operation has a sign and the draw exceeds 0.5."""
        if self.signed and rng.random() > 0.5:
            value = -value
        return self.apply(image, value)


OPERATIONS: tuple[Operation, ...] = (
    Operation("AutoContrast", lambda image, _: ImageOps.autocontrast(image), 0, 1),
    Operation("Equalize", lambda image, _: ImageOps.equalize(image), 0, 1),
    Operation("Rotate", lambda image, v: image.rotate(v), 0, 30, signed=True),
    Operation("Posterize", _posterize, 0, 4),
    Operation("Solarize", lambda image, v: ImageOps.solarize(image, math.ceil(v)), 0, 256),
    Operation("SolarizeAdd", _solarize_add, 0, 110),
    Operation("Color", lambda image, v: ImageEnhance.Color(image).enhance(v), 0.1, 1.9),
    Operation("Contrast", lambda image, v: ImageEnhance.Contrast(image).enhance(v), 0.1, 1.9),
    Operation("Brightness", lambda image, v: ImageEnhance.Brightness(image).enhance(v), 0.1, 1.9),
    Operation("Sharpness", lambda image, v: ImageEnhance.Sharpness(image).enhance(v), 0.1, 1.9),
    Operation("ShearX", lambda image, v: _affine(image, (1, v, 0, 0, 1, 0)), 0, 0.3, signed=True),
    Operation("ShearY", lambda image, v: _affine(image, (1, 0, 0, v, 1, 0)), 0, 0.3, signed=True),
    Operation("TranslateXabs", lambda image, v: _affine(image, (1, 0, v, 0, 1, 0)), 0, 100, signed=True),
    Operation("TranslateYabs", lambda image, v: _affine(image, (1, 0, 0, 0, 1, v)), 0, 100, signed=True),
)


class RandAugment:
    """Apply n operations, each drawn uniformly with replacement, at magnitude m (0 to 30) to an RGB image."""

    def __init__(self, n: int = 2, m: float = 9) -> None:
        self.n, self.m = n, m

    def __call__(self, image: Image.Image, rng: random.Random) -> Image.Image:
        for operation in rng.choices(OPERATIONS, k=self.n):
            image = operation(image, operation.value(self.m), rng)
        return image
