"""Image transforms by their official keys: what turns a decoded image into the model's input.

Source: docs/official/meter.md §3.7.
"""

from __future__ import annotations

import difflib
import random
from collections.abc import Callable
from functools import partial

from PIL import Image
from torch import Tensor
from torchvision import transforms
from torchvision.transforms import InterpolationMode

from vlp.data.randaugment import RandAugment
from vlp.data.transform_keys import KEYS, PIXELBERT_STEP

CLIP_MEAN, CLIP_STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)
IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
HALF = (0.5, 0.5, 0.5)

_NORMALIZE = {
    "clip": (CLIP_MEAN, CLIP_STD),
    "imagenet": (IMAGENET_MEAN, IMAGENET_STD),
    "vit": (HALF, HALF),
    "pixelbert": (HALF, HALF),
}


class Transform:
    """An image transform.

    Attributes:
        mode: the PIL mode that an image is converted to before the call, "RGBA" for the clip keys, else "RGB". An
            opaque image may stay RGB: at alpha 255 both give the same numbers.
    """

    def __init__(self, key: str, size: int) -> None:
        self.key, self.size = key, size
        base = key.removesuffix("_randaug")
        self.mode = "RGBA" if base == "clip" else "RGB"
        self._augment = RandAugment() if key.endswith("_randaug") else None
        # Resizing in RGBA weights colours by alpha; alpha is dropped after it.
        self._geometry: Callable[[Image.Image], Image.Image] = (
            partial(_resize_pixelbert, shorter=size)
            if base == "pixelbert"
            else transforms.Compose(
                [transforms.Resize(size, InterpolationMode.BICUBIC), transforms.CenterCrop(size), _to_rgb]
            )
        )
        self._tensor = transforms.Compose([transforms.ToTensor(), transforms.Normalize(*_NORMALIZE[base])])

    def __call__(self, image: Image.Image, rng: random.Random | None = None) -> Tensor:
        """The image as float32 (3, H, W): H = W = size, for pixelbert multiples of 32.

        Args:
            image: an image in mode `mode`, or RGB.
            rng: the source of RandAugment's draws; only the `_randaug` keys need it.

        Raises:
            ValueError: a `_randaug` key without rng, or an image too thin for pixelbert.
        """
        if self._augment is not None:
            if rng is None:
                raise ValueError(f"transform {self.key!r} is random: pass rng, a random.Random")
            image = self._augment(_to_rgb(image), rng)  # opaque from here on: no need for RGBA
        return self._tensor(self._geometry(image))

    def framed(self, image: Image.Image) -> Image.Image:
        """The part of an RGB image that a model sees, in the size that it sees, without RandAugment."""
        return self._geometry(image)

    def __repr__(self) -> str:
        return f"Transform({self.key!r}, size={self.size})"


def build_transform(key: str, size: int) -> Transform:
    """The transform of an official key (`KEYS`) for images of `size` pixels.

    Raises:
        ValueError: the key does not exist; the message gives the nearest one.
    """
    if key not in KEYS:
        near = difflib.get_close_matches(key, KEYS, n=1, cutoff=0)
        raise ValueError(f"unknown transform key {key!r}: did you mean {near[0]!r}? (known: {', '.join(KEYS)})")
    return Transform(key, size)


def _to_rgb(image: Image.Image) -> Image.Image:
    return image if image.mode == "RGB" else image.convert("RGB")


def pixelbert_size(width: int, height: int, shorter: int) -> tuple[int, int]:
    """Width and height after the pixelbert resize: the shorter side becomes `shorter`, the longer one at most
    int(1333/800 * shorter), each rounded and then cut to a multiple of `PIXELBERT_STEP`.
    """
    longest = int(1333 / 800 * shorter)
    scale = shorter / min(width, height)
    new_width, new_height = (shorter, height * scale) if width <= height else (width * scale, shorter)
    shrink = min(1.0, longest / max(new_width, new_height))
    cut_width, cut_height = (int(side * shrink + 0.5) // PIXELBERT_STEP for side in (new_width, new_height))
    return cut_width * PIXELBERT_STEP, cut_height * PIXELBERT_STEP


def _resize_pixelbert(image: Image.Image, shorter: int) -> Image.Image:
    size = pixelbert_size(*image.size, shorter)
    if 0 in size:
        raise ValueError(
            f"an image of {image.width} x {image.height} is too thin for image_size={shorter}: pixelbert cuts a side "
            "to 0 pixels; pad or crop it, or raise image_size"
        )
    return image.resize(size, Image.Resampling.BICUBIC)
