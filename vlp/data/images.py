"""Decode image bytes, and say plainly why some cannot be decoded."""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

import numpy as np
from PIL import Image, UnidentifiedImageError

# Pillow's other plugins are left out: bytes from the web must not reach a PostScript interpreter.
FORMATS = ("JPEG", "PNG", "GIF", "WEBP", "BMP", "TIFF")
# How many times as long as wide an image may be. Panoramas end below it; at 384 pixels ViLT's transform cannot take
# more, and one that makes the shorter side fit a square never makes more than this many squares of pixels.
MAX_ASPECT = 20
# What Pillow raises on broken bytes; MemoryError is left out on purpose.
_BROKEN = (OSError, SyntaxError, ValueError, EOFError, IndexError, TypeError, struct.error, zlib.error)


class ImageError(ValueError):
    """Bytes that are not a readable image; the message gives the reason."""


def decode_image(data: bytes, mode: str | None) -> Image.Image:
    """Decode ``data`` and convert it to ``mode``: "RGB", "RGBA", or None for RGBA if there is transparency, else RGB.

    Greyscale, palette, CMYK, 16-bit and alpha images work. 16-bit greyscale is scaled to 8 bits (Pillow alone would
    clip it to white). The header alone is read to apply Pillow's limit against decompression bombs, which stays on,
    and that of the shape, :data:`MAX_ASPECT`.

    Raises:
        ImageError: the bytes are empty, none of :data:`FORMATS`, truncated, of 32-bit numbers, decode to more pixels
            than Pillow's limit, or are more than :data:`MAX_ASPECT` times as long as wide.
    """
    if not data:
        raise ImageError("zero bytes")
    with _opened(io.BytesIO(data)) as image:
        image.load()
        wanted = mode or ("RGBA" if image.has_transparency_data else "RGB")
        decoded = _to_8_bits(image)
        return decoded if decoded.mode == wanted else decoded.convert(wanted)


def image_size(file: Path | BinaryIO) -> tuple[int, int]:
    """Width and height in pixels, from the header alone.

    Raises:
        ImageError: as :func:`decode_image`, as far as the header shows it.
    """
    with _opened(file) as image:
        return image.size


def check_image(data: bytes) -> None:
    """Decode ``data`` completely; raise :class:`ImageError` if it cannot be."""
    decode_image(data, "RGB")


@contextmanager
def _opened(file: Path | BinaryIO) -> Iterator[Image.Image]:
    """The image of a file whose header has been read; what Pillow says against it becomes an ImageError."""
    try:
        with Image.open(file, formats=FORMATS) as image:
            if max(image.size) > MAX_ASPECT * min(image.size):
                raise ImageError(
                    f"{image.width} x {image.height} pixels: more than {MAX_ASPECT} times as long as wide is no photo"
                )
            yield image
    except ImageError:
        raise
    except UnidentifiedImageError as error:
        raise ImageError(f"no {', '.join(FORMATS)} image") from error
    except Image.DecompressionBombError as error:
        raise ImageError(f"too large: {error}") from error
    except _BROKEN as error:
        raise ImageError(f"{type(error).__name__}: {error}") from error


def _to_8_bits(image: Image.Image) -> Image.Image:
    if image.mode in ("I", "F"):
        raise ValueError(f"pixels of mode {image.mode}, which have no known range")
    if not image.mode.startswith("I;16"):
        return image
    return Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))
