"""Image bytes of every kind: the right image, or an ImageError and nothing else."""

from __future__ import annotations

import io
import random
import struct
import warnings
import zlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageFile

from vlp.data.images import ImageError, decode_image

WIDTH, HEIGHT = 24, 16
# Smooth: lossy formats stay close.
_Y, _X = np.mgrid[0:HEIGHT, 0:WIDTH]
RGB = np.stack([10 * _X, 15 * _Y, 5 * (_X + _Y)], axis=-1).astype(np.uint8)
ALPHA = (255 - 9 * _X).astype(np.uint8)
GREY = RGB[..., 0]


def saved(image: Image.Image, kind: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def png(width: int, height: int, depth: int, colour: int, pixels: bytes) -> bytes:
    """A PNG by hand, for what Pillow does not write: ``pixels`` are its raw rows."""
    header = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)
    size = len(pixels) // height if pixels else 0
    data = b"".join(b"\0" + pixels[i * size : (i + 1) * size] for i in range(height if pixels else 0))
    chunks = ((b"IHDR", header), (b"IDAT", zlib.compress(data)), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body)) for name, body in chunks
    )


def sixteen(array: np.ndarray) -> bytes:
    """8-bit values as the high bytes of 16-bit ones."""
    return (array.astype(np.uint16) << 8 | 0x7F).astype(">u2").tobytes()


GREY_RGB = np.repeat(GREY[..., None], 3, axis=-1)
OPAQUE = np.full((HEIGHT, WIDTH), 255, np.uint8)
COLOUR, GREY_IMAGE = Image.fromarray(RGB), Image.fromarray(GREY)
GREY_16 = Image.fromarray(GREY.astype(np.uint16) << 8 | 0x7F)
PALETTE = COLOUR.quantize(16)
TRANSLUCENT = Image.fromarray(np.dstack([RGB, ALPHA]))
# name: (bytes, RGB values, alpha, tolerance)
IMAGES: dict[str, tuple[bytes, np.ndarray, np.ndarray, int]] = {
    "RGB JPEG": (saved(COLOUR, "JPEG", quality=95), RGB, OPAQUE, 12),
    "greyscale JPEG": (saved(GREY_IMAGE, "JPEG", quality=95), GREY_RGB, OPAQUE, 4),
    "CMYK JPEG": (saved(COLOUR.convert("CMYK"), "JPEG", quality=100), RGB, OPAQUE, 12),
    "CMYK TIFF": (saved(COLOUR.convert("CMYK"), "TIFF"), RGB, OPAQUE, 1),
    "RGB PNG": (saved(COLOUR, "PNG"), RGB, OPAQUE, 0),
    "RGBA PNG": (saved(TRANSLUCENT, "PNG"), RGB, ALPHA, 0),
    "RGBA WebP": (saved(TRANSLUCENT, "WEBP", lossless=True, exact=True), RGB, ALPHA, 0),
    "greyscale PNG": (saved(GREY_IMAGE, "PNG"), GREY_RGB, OPAQUE, 0),
    "greyscale and alpha PNG": (
        saved(Image.merge("LA", (GREY_IMAGE, Image.fromarray(ALPHA))), "PNG"),
        GREY_RGB,
        ALPHA,
        0,
    ),
    "palette PNG": (saved(PALETTE, "PNG"), np.asarray(PALETTE.convert("RGB")), OPAQUE, 0),
    "palette GIF": (saved(PALETTE, "GIF"), np.asarray(PALETTE.convert("RGB")), OPAQUE, 0),
    "black and white PNG": (
        saved(GREY_IMAGE.point(lambda v: 255 * (v > 99)).convert("1"), "PNG"),
        np.where(GREY_RGB > 99, 255, 0).astype(np.uint8),
        OPAQUE,
        0,
    ),
    "RGB BMP": (saved(COLOUR, "BMP"), RGB, OPAQUE, 0),
    "16-bit greyscale PNG": (saved(GREY_16, "PNG"), GREY_RGB, OPAQUE, 0),
    "16-bit greyscale TIFF": (saved(GREY_16, "TIFF"), GREY_RGB, OPAQUE, 0),
    "16-bit RGB PNG": (png(WIDTH, HEIGHT, 16, 2, sixteen(RGB)), RGB, OPAQUE, 0),
    "16-bit RGBA PNG": (png(WIDTH, HEIGHT, 16, 6, sixteen(np.dstack([RGB, ALPHA]))), RGB, ALPHA, 0),
}


@pytest.mark.parametrize("name", IMAGES)
def test_every_kind_of_image_is_the_right_image(name: str) -> None:
    data, rgb, alpha, tolerance = IMAGES[name]
    for mode, expected in (("RGB", rgb), ("RGBA", np.dstack([rgb, alpha]))):
        image = decode_image(data, mode)
        assert (image.mode, image.size) == (mode, (WIDTH, HEIGHT))
        difference = np.abs(np.asarray(image).astype(int) - expected)
        assert difference.max() <= tolerance


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "zero bytes"),
        (b"<html>404 not found</html>", "no JPEG, PNG, GIF, WEBP, BMP, TIFF image"),
        (saved(COLOUR, "EPS"), "no JPEG, .* image"),
        (saved(COLOUR, "JPEG")[:-50], "truncated"),
        (saved(COLOUR, "PNG")[:-50], "truncated"),
        (saved(GREY_IMAGE.convert("F"), "TIFF"), "pixels of mode F"),
        (png(WIDTH, HEIGHT, 8, 2, bytes(7)), "OSError"),
        (png(0, 0, 8, 2, b""), "no JPEG|OSError|ValueError"),
    ],
)
def test_what_is_no_image_says_why(data: bytes, message: str) -> None:
    assert ImageFile.LOAD_TRUNCATED_IMAGES is False  # true for all of Pillow, if someone sets it
    with pytest.raises(ImageError, match=message):
        decode_image(data, "RGB")


def test_a_decompression_bomb_is_refused_by_its_header() -> None:
    """A few bytes that claim 60,000 x 60,000 pixels; were they decoded, the error would be another one."""
    with pytest.raises(ImageError, match=r"too large: .*3600000000 pixels.*limit of \d+ pixels"):
        decode_image(png(60_000, 60_000, 8, 2, b""), "RGB")
    assert Image.MAX_IMAGE_PIXELS is not None  # the upstreams switch the limit off for all of Pillow


@pytest.mark.parametrize(("width", "height"), [(1, 20_000), (20_000, 1), (21, 1), (2, 41)])
def test_an_extreme_shape_is_refused_by_its_header(width: int, height: int) -> None:
    """Made as wide as a model's input, 1 x 20,000 pixels are 26 GB."""
    with pytest.raises(ImageError, match=f"{width} x {height} pixels: more than 20 times as long as wide"):
        decode_image(png(width, height, 8, 2, b""), None)  # which has no pixels to decode


@pytest.mark.parametrize("size", [(20, 1), (1, 20), (2, 40), (1, 1)])
def test_a_shape_within_the_bound_is_decoded(size: tuple[int, int]) -> None:
    assert decode_image(saved(Image.new("RGB", size), "PNG"), None).size == size


@settings(max_examples=400, deadline=None)
@given(st.sampled_from(sorted(IMAGES)), st.integers(0, 2**32))
def test_damaged_bytes_raise_an_image_error_or_nothing(name: str, seed: int) -> None:
    rng = random.Random(seed)
    data = bytearray(IMAGES[name][0])
    for _ in range(rng.choice([0, 1, 3, 20])):
        data[rng.randrange(min(len(data), rng.choice([32, 200, 10_000])))] = rng.randrange(256)
    if rng.random() < 0.5:
        del data[rng.randrange(len(data)) :]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Pillow on broken tags
        try:
            assert decode_image(bytes(data), "RGB").mode == "RGB"
        except ImageError as error:
            assert str(error)


@settings(max_examples=200, deadline=None)
@given(st.sampled_from(["RGB JPEG", "RGB PNG", "palette GIF", "RGB BMP", "RGBA WebP"]), st.integers(1, 10_000))
def test_a_truncated_image_is_never_a_half_image(name: str, cut: int) -> None:
    """Whatever is missing at the end: the whole image (its last bytes are an end mark) or an error."""
    data = IMAGES[name][0]
    try:
        image = decode_image(data[: -min(cut, len(data))], "RGB")
    except ImageError:
        return
    assert image.tobytes() == decode_image(data, "RGB").tobytes()
