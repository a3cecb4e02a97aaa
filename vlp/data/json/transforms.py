"""What ALBEF and X-VLM do to a decoded image before the model sees it.

Source: docs/official/albef.md §3, docs/official/xvlm.md §3.8.
"""

from __future__ import annotations

import math
import random
from typing import Protocol

import numpy as np
from PIL import Image
from torch import Tensor
from torchvision import transforms

from vlp.data.random_augment import RandomAugment
from vlp.data.transforms import CLIP_MEAN, CLIP_STD

_BICUBIC = Image.Resampling.BICUBIC
_TRIES = 10
_IN_PLACE = ("Identity", "AutoContrast", "Equalize", "Brightness", "Sharpness")
Box = tuple[int, int, int, int]  # left, upper, right, lower


class ImageTransform(Protocol):
    """An RGB image and the source of its draws -> float32 (3, res, res), normalised."""

    def __call__(self, image: Image.Image, rng: random.Random) -> Tensor: ...


class EvalTransform:
    """Resize to exactly (res, res), bicubic, whatever the shape."""

    def __init__(self, res: int) -> None:
        self.res = res

    def __call__(self, image: Image.Image, rng: random.Random) -> Tensor:
        return to_tensor(image.resize((self.res, self.res), _BICUBIC))


class TrainTransform:
    """Random crop, flip in half of the cases, :class:`RandomAugment`.

    The crop has ``scale`` of the image's area and a width between 3/4 and 4/3 of its height, as
    ``torchvision.transforms.RandomResizedCrop`` draws it. Without ``scale`` (grounding) the whole image is resized;
    without ``flip`` none is flipped here.
    """

    def __init__(self, res: int, scale: tuple[float, float] | None, flip: bool = True) -> None:
        self.res, self.scale, self.flip = res, scale, flip
        self.augment = RandomAugment()

    def __call__(self, image: Image.Image, rng: random.Random) -> Tensor:
        if self.scale is not None:
            image = image.crop(random_box(*image.size, self.scale, rng))
        image = image.resize((self.res, self.res), _BICUBIC)
        if self.flip and rng.random() < 0.5:
            image = image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
        draws = np.random.RandomState(rng.getrandbits(32))
        return to_tensor(self.augment(np.array(image), draws))


class BoxTransform:
    """:class:`RandomAugment` without what would move a box; the image has its size already."""

    def __init__(self) -> None:
        self.augment = RandomAugment(names=_IN_PLACE)

    def __call__(self, image: Image.Image, rng: random.Random) -> Tensor:
        draws = np.random.RandomState(rng.getrandbits(32))
        return to_tensor(self.augment(np.array(image), draws))


def random_box(width: int, height: int, scale: tuple[float, float], rng: random.Random) -> Box:
    """The part of an image that a random crop keeps, of ``scale`` of its area and a shape of 3:4 to 4:3.

    What does not fit is drawn again, ten times at most; then it is the largest part of such a shape in the middle.
    """
    low, high = 3 / 4, 4 / 3
    for _ in range(_TRIES):
        area = width * height * rng.uniform(*scale)
        ratio = math.exp(rng.uniform(math.log(low), math.log(high)))
        w, h = round(math.sqrt(area * ratio)), round(math.sqrt(area / ratio))
        if 0 < w <= width and 0 < h <= height:
            upper, left = rng.randint(0, height - h), rng.randint(0, width - w)
            return left, upper, left + w, upper + h
    w, h = width, height
    if width / height < low:
        h = round(width / low)
    elif width / height > high:
        w = round(height * high)
    left, upper = (width - w) // 2, (height - h) // 2
    return left, upper, left + w, upper + h


def to_tensor(image: Image.Image | np.ndarray) -> Tensor:
    """An RGB image as float32 (3, H, W), normalised with CLIP's mean and deviation."""
    return _TO_TENSOR(image)


_TO_TENSOR = transforms.Compose([transforms.ToTensor(), transforms.Normalize(CLIP_MEAN, CLIP_STD)])
