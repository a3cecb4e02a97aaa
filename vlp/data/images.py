"""Decode image bytes, and say plainly why some cannot be decoded."""

from __future__ import annotations

import io
import struct
import zlib

import numpy as np
from PIL import Image

# What Pillow raises on broken bytes; MemoryError is left out on purpose.
_BROKEN = (OSError, SyntaxError, ValueError, EOFError, IndexError, TypeError, struct.error, zlib.error)


class ImageError(ValueError):
    """Bytes that are not a readable image; the message gives the reason."""


def decode_image(data: bytes, mode: str) -> Image.Image:
    """Decode ``data`` and convert it to ``mode`` ("RGB" or "RGBA").

    Greyscale, palette, CMYK and alpha images work. 16-bit greyscale is scaled to 8 bits (Pillow alone would clip it
    to white). Pillow's limit against decompression bombs stays on.

    Raises:
        ImageError: the bytes are empty, no image, truncated, or decode to more pixels than Pillow's limit.
    """
    if not data:
        raise ImageError("zero bytes")
    try:
        with Image.open(io.BytesIO(data)) as image:
            return _to_8_bits(image).convert(mode)
    except Image.DecompressionBombError as error:
        raise ImageError(f"too large: {error}") from error
    except _BROKEN as error:
        raise ImageError(f"{type(error).__name__}: {error}") from error


def check_image(data: bytes) -> None:
    """Decode ``data`` completely; raise :class:`ImageError` if it cannot be."""
    decode_image(data, "RGB")


def _to_8_bits(image: Image.Image) -> Image.Image:
    if not image.mode.startswith("I;16"):
        return image
    return Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))
