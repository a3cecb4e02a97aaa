"""RandomAugment as ALBEF and X-VLM use it: n operations of ten, drawn with replacement, each applied half of the time.

The official code works with OpenCV. Here the tables, the blur and shifts by whole pixels give the same numbers;
rotation and shear sample between the pixels in plain floating point, within one grey level of OpenCV 5. (OpenCV 4
rounds the places to 1/32 pixel and is up to six levels away from both.)

Source: docs/official/albef.md §3.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
from PIL import Image

Pixels = np.ndarray  # (H, W, 3) uint8
Affine = tuple[float, float, float, float, float, float]  # (a, b, c, d, e, f): x' = a x + b y + c, y' = d x + e y + f
FILL = 128  # grey where no pixel comes from
_HIGHEST = 10  # level
_AFFINE, _BILINEAR = Image.Transform.AFFINE, Image.Resampling.BILINEAR


def auto_contrast(pixels: Pixels) -> Pixels:
    """Stretch every channel to 0..255; a flat one stays."""
    return _by_channel(pixels, _stretch)


def equalize(pixels: Pixels) -> Pixels:
    """Level the histogram of every channel as PIL does."""
    return _by_channel(pixels, _level)


def brightness(pixels: Pixels, factor: float) -> Pixels:
    """Multiply by ``factor``; the result is cut to a whole number, 255 at most."""
    return (np.arange(256) * factor).clip(0, 255).astype(np.uint8)[pixels]


def sharpness(pixels: Pixels, factor: float) -> Pixels:
    """Move away from the blurred image; the border of one pixel stays.

    What leaves 0..255 wraps around, as officially: 260 is 4, -3 is 253.
    """
    height, width = pixels.shape[:2]
    if height < 3 or width < 3:
        return pixels
    image = pixels.astype(np.int32)
    around = sum(image[y : height - 2 + y, x : width - 2 + x] for y in range(3) for x in range(3))
    inner = image[1:-1, 1:-1]
    blurred = (2 * (around + 4 * inner) + 13) // 26  # the nearest whole number to the sum / 13
    result = pixels.copy()
    moved = blurred.astype(np.float32) + np.float32(factor) * (inner - blurred).astype(np.float32)
    result[1:-1, 1:-1] = moved.astype(np.int32).astype(np.uint8)
    return result


def shear_x(pixels: Pixels, factor: float) -> Pixels:
    """Move each row right by ``factor`` times its number."""
    return warp(pixels, (1, factor, 0, 0, 1, 0))


def shear_y(pixels: Pixels, factor: float) -> Pixels:
    """Move each column down by ``factor`` times its number."""
    return warp(pixels, (1, 0, 0, factor, 1, 0))


def translate_x(pixels: Pixels, offset: float) -> Pixels:
    """Move left by ``offset`` pixels."""
    return warp(pixels, (1, 0, -offset, 0, 1, 0))


def translate_y(pixels: Pixels, offset: float) -> Pixels:
    """Move up by ``offset`` pixels."""
    return warp(pixels, (1, 0, 0, 0, 1, -offset))


def rotate(pixels: Pixels, degrees: float) -> Pixels:
    """Rotate counter-clockwise around (W / 2, H / 2)."""
    cos, sin = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    x, y = pixels.shape[1] / 2, pixels.shape[0] / 2
    return warp(pixels, (cos, sin, (1 - cos) * x - sin * y, -sin, cos, sin * x + (1 - cos) * y))


def warp(pixels: Pixels, forward: Affine) -> Pixels:
    """Send each pixel where ``forward`` says, bilinear; grey lies around the image and blends with its border."""
    a, b, c, d, e, f = forward
    height, width = pixels.shape[:2]
    # Where each pixel of the result comes from: (right, down) of x and of y.
    x_right, x_down, y_right, y_down = np.array([e, -b, -d, a]) / (a * e - b * d)
    x_start, y_start = -x_right * c - x_down * f, -y_right * c - y_down * f
    # Pillow counts from the corner of a pixel, half a pixel before its centre; the frame of one grey pixel moves both.
    half_x, half_y = 1.5 - (x_right + x_down) / 2, 1.5 - (y_right + y_down) / 2
    backward = (x_right, x_down, x_start + half_x, y_right, y_down, y_start + half_y)
    framed = np.full((3, height + 2, width + 2), FILL, np.float32)
    framed[:, 1:-1, 1:-1] = pixels.transpose(2, 0, 1)
    result = np.empty_like(pixels)
    for channel, values in enumerate(framed):
        image = Image.fromarray(values).transform((width, height), _AFFINE, backward, _BILINEAR, fillcolor=FILL)
        result[..., channel] = np.rint(np.asarray(image))
    return result


class Operation(NamedTuple):
    """An operation, its amount at a level of 0 to 10 (None: it has none), and which draws make the amount negative."""

    apply: Callable[..., Pixels]
    amount: Callable[[float], float] | None = None
    negative: Callable[[float], bool] | None = None


def _factor(level: float) -> float:
    return level / _HIGHEST * 1.8 + 0.1


def _shear(level: float) -> float:
    return level / _HIGHEST * 0.3


def _shift(level: float) -> float:
    return level / _HIGHEST * 10


def _angle(level: float) -> float:
    return level / _HIGHEST * 30


def _above(draw: float) -> bool:
    return draw > 0.5


def _below(draw: float) -> bool:
    return draw < 0.5


OPERATIONS: dict[str, Operation] = {
    "Identity": Operation(lambda pixels: pixels),
    "AutoContrast": Operation(auto_contrast),
    "Equalize": Operation(equalize),
    "Brightness": Operation(brightness, _factor),
    "Sharpness": Operation(sharpness, _factor),
    "ShearX": Operation(shear_x, _shear, _above),
    "ShearY": Operation(shear_y, _shear, _above),
    "TranslateX": Operation(translate_x, _shift, _above),
    "TranslateY": Operation(translate_y, _shift, _above),
    "Rotate": Operation(rotate, _angle, _below),
}


class RandomAugment:
    """Draw ``n`` of the operations called ``names``; each is applied, at level ``m``, with probability 1/2."""

    def __init__(self, n: int = 2, m: float = 7, names: Sequence[str] = tuple(OPERATIONS)) -> None:
        self.n, self.m, self.names = n, m, list(names)

    def __call__(self, pixels: Pixels, rng: np.random.RandomState) -> Pixels:
        """Augment an image; the draws are those of numpy's legacy generator, in the official order."""
        for name in rng.choice(self.names, self.n):
            operation = OPERATIONS[name]
            if rng.random_sample() > 0.5:
                continue
            arguments = []
            if operation.amount is not None:
                negative = operation.negative is not None and operation.negative(rng.random_sample())
                arguments = [-operation.amount(self.m) if negative else operation.amount(self.m)]
            pixels = operation.apply(pixels, *arguments)
        return pixels


def _by_channel(pixels: Pixels, table: Callable[[np.ndarray], np.ndarray | None]) -> Pixels:
    """Each channel through the table that ``table`` makes of it; None leaves it as it is."""
    result = pixels.copy()
    for channel in range(pixels.shape[2]):
        if (values := table(pixels[..., channel])) is not None:
            result[..., channel] = values[pixels[..., channel]]
    return result


def _stretch(channel: np.ndarray) -> np.ndarray | None:
    low, high = int(channel.min()), int(channel.max())
    if low == high:
        return None
    scale = 255 / (high - low)
    return (np.arange(256) * scale - low * scale).clip(0, 255).astype(np.uint8)


def _level(channel: np.ndarray) -> np.ndarray | None:
    histogram = np.bincount(channel.ravel(), minlength=256)
    filled = histogram[histogram > 0]
    step = int(filled[:-1].sum()) // 255
    if step == 0:
        return None
    before = np.concatenate([[0], histogram[:-1]]).cumsum() + step // 2
    return (before // step).clip(0, 255).astype(np.uint8)
