"""Captions that a model has written: the file of them, and the references that they are compared with.

Source: docs/official/xvlm.md §7.5.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from vlp.data.errors import DataError
from vlp.distributed import gathered
from vlp.files import read_json, write_json

ImageId = int | str
References = Mapping[ImageId, Sequence[str]]


class Captions:
    """One caption for every image: ``of_image`` is image id -> caption."""

    def __init__(self) -> None:
        self.of_image: dict[ImageId, str] = {}

    def take(self, image_ids: Sequence[ImageId], captions: Sequence[str]) -> None:
        """Take a caption for each of the images."""
        self.of_image.update(zip(image_ids, captions, strict=True))

    def gather(self) -> None:
        """Take in those of all ranks; every rank must call it. An image that two ranks were given counts once."""
        self.of_image = {image: caption for part in gathered(self.of_image) for image, caption in part.items()}

    def write(self, path: Path) -> None:
        """Write ``[{"image_id": …, "caption": …}, …]`` atomically."""
        write_json(path, [{"image_id": image, "caption": caption} for image, caption in self.of_image.items()])


def read_references(path: str | Path) -> dict[ImageId, list[str]]:
    """The captions of each image of a file in COCO's form: ``annotations``, a list of ``image_id`` and ``caption``.

    Raises:
        DataError: no such file, or one of another form.
    """
    try:
        content = read_json(path)
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror}): it should hold the reference captions") from error
    except (ValueError, RecursionError) as error:
        raise DataError(f"{path}: is no JSON ({error})") from error
    rows: Any = content.get("annotations") if isinstance(content, dict) else None
    if not isinstance(rows, list):
        raise DataError(f"{path}: has no list under 'annotations', where COCO's files hold their captions")
    references: dict[ImageId, list[str]] = {}
    for i, row in enumerate(rows):
        image, caption = (row.get("image_id"), row.get("caption")) if isinstance(row, dict) else (None, None)
        if not isinstance(image, int | str) or not isinstance(caption, str):
            raise DataError(f"{path}: annotation {i} needs an image_id and a caption (a text), and is {row!r:.80}")
        references.setdefault(image, []).append(caption)
    return references


def matched(captions: Mapping[ImageId, str], references: References, path: str | Path) -> dict[ImageId, Sequence[str]]:
    """The references of the images that have a caption, whether ids are numbers or texts.

    Raises:
        DataError: an image has none.
    """
    by_text = {str(image): texts for image, texts in references.items()}
    if lacking := [image for image in captions if str(image) not in by_text]:
        raise DataError(
            f"{path}: has no caption of image {lacking[0]!r} ({len(lacking)} of {len(captions)} images): it is the "
            f"reference file of another list"
        )
    return {image: by_text[str(image)] for image in captions}
