"""Images that cost a decoder what photographs cost it: structure at every scale, in JPEG, in an Arrow table."""

from __future__ import annotations

import io
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from PIL import Image

from vlp.data.arrow.writer import CAPTION, Row, Table, write_table
from vlp.data.conversion.skips import Skips

QUALITY = 90


def photo(size: int, rng: np.random.Generator) -> bytes:
    """A JPEG of 4:3, its shorter side ``size``; at 480 about 100 kB, as much as a COCO image has at this quality."""
    width, height = 4 * size // 3, size
    image = np.zeros((height, width, 3), np.float32)
    cells, strength = 2, 1.0
    while cells <= width:
        coarse = rng.normal(size=(max(1, 3 * cells // 4), cells, 3)).astype(np.float32)
        for channel in range(3):
            layer = Image.fromarray(coarse[..., channel]).resize((width, height), Image.Resampling.BICUBIC)
            image[..., channel] += strength * np.asarray(layer)
        cells, strength = 2 * cells, 0.8 * strength
    low, high = np.percentile(image, [1, 99])
    buffer = io.BytesIO()
    pixels = ((image - low) / (high - low) * 255).clip(0, 255).astype(np.uint8)
    Image.fromarray(pixels).save(buffer, "JPEG", quality=QUALITY)
    return buffer.getvalue()


def write_photos(folder: Path, count: int, size: int) -> Path:
    """``vg.arrow`` of ``count`` images with a caption each, always the same ones; returns the folder."""
    rng = np.random.default_rng(0)

    def rows(_: Skips) -> Iterator[Row]:
        for number in range(count):
            caption = f"a man rides a brown horse along beach number {number}"
            yield {"image": photo(size, rng), "caption": [caption], "image_id": f"{number}.jpg", "split": "train"}

    write_table(Table("vg", CAPTION, rows, count), folder, False, lambda: None)
    return folder
