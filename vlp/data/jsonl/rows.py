"""What a line must hold: its caption, its image, and what is wrong with one that does not serve.

Source: docs/official/xvlm.md §3.2.
"""

from __future__ import annotations

import base64
import binascii
import json
import random
from collections.abc import Sequence
from typing import Any

from PIL import Image

from vlp.data.errors import DataError
from vlp.data.images import ImageError, decode_image
from vlp.data.json.fields import Row, file_name, kind_of, text, text_or_texts
from vlp.data.json.images import ImageRoot
from vlp.data.jsonl.lines import LONGEST, Line


class RowError(ValueError):
    """A row that cannot be used; the message gives the reason."""


def parsed(line: Line) -> Row:
    """The object that a line holds.

    Raises:
        RowError: it is too long, no UTF-8 text, no JSON, or no object.
    """
    if line.data is None:
        raise RowError(f"is longer than {LONGEST >> 20} MiB, which no row is: is the file one of JSON lines?")
    try:
        row = json.loads(line.data.decode("utf-8-sig" if line.offset == 0 else "utf-8"))
    except UnicodeDecodeError as error:
        raise RowError(f"is not UTF-8 text (byte {error.start} of the line)") from error
    except RecursionError:
        raise RowError("is nested too deep") from None
    except ValueError as error:
        raise RowError(f"is not valid JSON ({getattr(error, 'msg', error)})") from error
    if not isinstance(row, dict):
        raise RowError(f"is {kind_of(row)}, not an object")
    return row


def field(row: Row, name: str, key: str) -> Any:
    """The value of a row under ``name``, which the configuration key ``key`` gives.

    Raises:
        RowError: there is none.
    """
    if name not in row:
        has = ", ".join(list(row)[:8]) or "nothing"
        raise RowError(f"lacks {name!r} ({key}={name}); it has {has}"[:300])
    return row[name]


def one_text(value: str | Sequence[str], rng: random.Random, name: str = "caption") -> str:
    """A text, or one of several.

    Raises:
        RowError: it is neither.
    """
    if wrong := text_or_texts(value):
        raise RowError(f"{name!r} {wrong}")
    return value if isinstance(value, str) else rng.choice(value)


def every_text(value: Any, name: str = "caption") -> list[str]:
    """A text, or several: all of them.

    Raises:
        RowError: it is neither.
    """
    if wrong := text_or_texts(value):
        raise RowError(f"{name!r} {wrong}")
    return [value] if isinstance(value, str) else list(value)


class RowImages:
    """The images of rows: base64 of an image file, or its path.

    Args:
        name: the field that holds it.
        root: the folder that paths start from; None: the field is base64.
        key: the configuration key that gives the name, for messages.
    """

    def __init__(self, name: str, root: ImageRoot | None, key: str = "images.image_key") -> None:
        self.name, self.root, self.key = name, root, key

    def __call__(self, row: Row, where: str) -> Image.Image:
        """The image of a row, RGB.

        Raises:
            RowError, ImageError, DataError: as :meth:`content`.
        """
        return decode_image(self.content(row, where), "RGB")

    def content(self, row: Row, where: str) -> bytes:
        """The image file of a row.

        Raises:
            RowError: the row has none.
            ImageError: it cannot be read.
            DataError: its path leaves the root.
        """
        value = field(row, self.name, self.key)
        if self.root is None:
            if wrong := text(value):
                raise RowError(f"{self.name!r} {wrong}")
            try:
                return base64.b64decode(value, validate=True)
            except (binascii.Error, ValueError) as error:
                raise ImageError(f"{self.name!r} is not base64 ({error})") from error
        if wrong := file_name(value):
            raise RowError(f"{self.name!r} {wrong}")
        if value.startswith("hdfs://"):
            raise DataError(f"{where}: the image {value[:200]} is not on a local disk: mount it, or copy it here")
        return self.root.content(value, where)
