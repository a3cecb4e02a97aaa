"""What an img2dataset shard holds: samples, and what stands there instead of one."""

from __future__ import annotations

import json
from typing import NamedTuple

IMAGE_SUFFIXES = ("jpg", "jpeg", "png", "webp")
SUCCESS = "success"
REPEATED = "second image of the same key"
NO_CAPTION, NO_IMAGE = "image without annotation", "annotation without image"
UNREADABLE = "caption cannot be read"


class Sample(NamedTuple):
    """An image of a shard; ``name`` is its key with the image's suffix."""

    key: str
    name: str
    image: bytes
    caption: str


class Unusable(NamedTuple):
    """What is left out of a shard: why, and which one it is."""

    reason: str
    example: str


Item = Sample | Unusable
PASSED = Unusable("", "")  # in place of what a reader need not read


class Annotation(NamedTuple):
    """What is written beside an image: its caption, "" if there is none, and the status of its download."""

    caption: str
    status: str = SUCCESS


def annotation_of(record: bytes | None, text: bytes | None) -> Annotation:
    """Read ``caption`` and ``status`` of the .json ``record``; without such a caption that of the .txt ``text``.

    Raises:
        ValueError: the record is no JSON object, or the text no UTF-8.
    """
    value = {} if record is None else _object(record)
    caption, status = value.get("caption"), value.get("status")
    if not isinstance(caption, str):
        caption = "" if text is None else text.decode()
    return Annotation(caption, status if isinstance(status, str) else SUCCESS)


def failed(status: str) -> str:
    """The reason for which a sample of another status than "success" is left out."""
    return f"link that img2dataset could not get: {status[:80]}"


def _object(record: bytes) -> dict[str, object]:
    try:
        value = json.loads(record)
    except RecursionError:
        raise ValueError("it is nested too deep") from None
    if not isinstance(value, dict):
        raise ValueError("it is no JSON object")
    return value
