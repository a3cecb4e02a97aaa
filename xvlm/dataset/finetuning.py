"""The rows of X-VLM's lists that ALBEF reads in another way, or not at all: questions, boxes, captions.

Source: docs/official/xvlm.md §3.5, §3.9, §3.10, §7.4, §7.5.
"""

from __future__ import annotations

import random
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from PIL import Image

from vlp.data.boxes import Box, BoxError, View, crop_around, names_a_side
from vlp.data.errors import DataError
from vlp.data.images import ImageError
from vlp.data.json.collate import JsonCollator
from vlp.data.json.dataset import JsonDataset, Roots, Sample
from vlp.data.json.datasets import QuestionTestDataset, QuestionTrainDataset
from vlp.data.json.fields import Row, RowKind, file_name, one_of, text, text_or_texts, whole_number
from vlp.data.json.text import pre_caption
from vlp.data.json.transforms import BoxTransform
from vlp.data.raw.karpathy import image_number
from vlp.data.raw.refcoco import INSTANCES, REFS, read_instances, read_refs

SOURCES = ("vqa", "vg", "gqa")
GQA = "the working directory, for images of gqa"  # which has no key


def _of_source(row: Row) -> str | None:
    wrong = one_of(SOURCES)(row["dataset"]) if "dataset" in row else None
    return wrong and f"'dataset' {wrong}"


def _has_box(row: Row) -> str | None:
    if "bbox" in row:
        try:
            Box.of(row["bbox"])
        except BoxError as error:
            return f"'bbox': {error}"
        return None
    if "ref_id" not in row:
        return "lacks 'bbox', the box [x, y, w, h] in pixels, and 'ref_id', by which refcoco_data knows it"
    wrong = whole_number(row["ref_id"])
    return wrong and f"'ref_id' {wrong}"


QUESTIONS_TRAIN = RowKind(
    "question training", {"image": file_name, "question": text, "answer": text_or_texts}, rule=_of_source
)
QUESTIONS_TEST = RowKind(
    "question test",
    {"image": file_name, "question": text, "question_id": whole_number},
    rule=_of_source,
    identity=lambda row: row["question_id"],
)
BOXES_TRAIN = RowKind("box training", {"image": file_name, "text": text}, rule=_has_box)
CAPTIONS_TRAIN = RowKind("caption training", {"image": file_name, "caption": text_or_texts})
CAPTIONS_TEST = RowKind("caption test", {"image": file_name}, identity=lambda row: row["image"])


class XvlmQuestionTrainDataset(QuestionTrainDataset):
    """As ALBEF's; half of the images are flipped, but none whose question or answers name a side."""

    kind = QUESTIONS_TRAIN

    def root_key(self, row: Row) -> str:
        return root_of_question(row)

    def view(self, row: Row, images: Iterable[Image.Image], rng: random.Random) -> Sample:
        fixed = names_a_side([row["question"], row["answer"]])
        flip = rng.random() < 0.5 and not fixed
        flipped = (image.transpose(Image.Transpose.FLIP_LEFT_RIGHT) if flip else image for image in images)
        return super().view(row, flipped, rng)


class XvlmQuestionTestDataset(QuestionTestDataset):
    """As ALBEF's."""

    kind = QUESTIONS_TEST

    def root_key(self, row: Row) -> str:
        return root_of_question(row)


def root_of_question(row: Row) -> str:
    """The configuration key of the folder of a question's image; those of gqa have none."""
    return {"vqa": "vqa_root", "vg": "vg_root", "gqa": GQA}[row.get("dataset", "vqa")]


class BoxTrainDataset(JsonDataset):
    """``text``, a phrase, and ``target_bbox``, (cx, cy, w, h) of what it means as shares of the view.

    The view is a random crop that holds the box, flipped in half of the cases; with ``careful_hflip`` not where the
    phrase names a side.

    Attributes:
        boxes: of rows without ``bbox``, by ``ref_id``.
    """

    kind, training = BOXES_TRAIN, True

    def __init__(
        self, paths: Sequence[str | Path], roots: Roots, res: int, seed: int, refcoco: Path, careful_hflip: bool
    ) -> None:
        """
        Args:
            refcoco: the folder with RefCOCO+'s files, which is read if a row has no box.

        Raises:
            DataError: as :class:`JsonDataset`; or a row's box is nowhere.
        """
        super().__init__(paths, roots, BoxTransform(), seed)
        self.res, self.careful_hflip = res, careful_hflip
        self.boxes: dict[int, Sequence[float]] = {}
        for index, row in enumerate(self.rows):
            if "bbox" in row:
                continue
            try:
                self.boxes = self.boxes or boxes_of_references(refcoco)
            except DataError as error:
                raise DataError(f"{self.rows.describe(index)} has no 'bbox', and {error.plain}") from error
            if row["ref_id"] not in self.boxes:
                raise DataError(
                    f"{self.rows.describe(index)}: ref_id {row['ref_id']} is not in {refcoco / REFS}: set refcoco_data "
                    "to the folder of the list's data set, or give the row a bbox"
                )

    def view(self, row: Row, images: Iterable[Image.Image], rng: random.Random) -> Sample:
        (image,) = images
        box = Box.of(row["bbox"] if "bbox" in row else self.boxes[row["ref_id"]])
        try:
            box.check(*image.size)
        except BoxError as error:
            raise ImageError(str(error)) from error
        crop = crop_around(box, *image.size, rng)
        flip = rng.random() < 0.5 and not (self.careful_hflip and names_a_side([row["text"]]))
        view, shown = View(crop, flip, self.res), box.inside(crop)
        assert shown is not None
        return {
            "images": [self.transform(view.image(image), rng)],
            "target_bbox": view.box(shown).target(self.res),
        }

    def fields(self, index: int, row: Row, rng: random.Random) -> Sample:
        return {"text": pre_caption(row["text"])}


def boxes_of_references(folder: Path) -> dict[int, Sequence[float]]:
    """Reference id -> box (x, y, w, h), of every split.

    Raises:
        DataError: ``refs(unc).p`` or ``instances.json`` is missing or of another format.
    """
    boxes, found, path = read_instances(folder / INSTANCES).boxes, dict[int, Sequence[float]](), folder / REFS
    for number, ref in enumerate(read_refs(path)):
        try:
            found[int(ref["ref_id"])] = boxes[int(ref["ann_id"])]
        except (KeyError, TypeError, ValueError) as error:
            raise DataError(f"{path}, element {number} does not fit {INSTANCES}: {error!r}") from error
    return found


class CaptionTrainDataset(JsonDataset):
    """``text``, the prompt and one caption of the row, drawn where it has a list of them."""

    kind, training = CAPTIONS_TRAIN, True
    prompt = ""

    def fields(self, index: int, row: Row, rng: random.Random) -> Sample:
        caption = row["caption"]
        return {"text": self.prompt + pre_caption(caption if isinstance(caption, str) else rng.choice(caption))}


class CaptionTestDataset(JsonDataset):
    """Images with ``image_id``: the number behind the last ``_`` of the file's name, else the row's, else its name."""

    kind, training = CAPTIONS_TEST, False

    def fields(self, index: int, row: Row, rng: random.Random) -> Sample:
        return {"image_id": image_id(row)}


def image_id(row: Row) -> int | str:
    """By which the annotations of captions know an image."""
    number = image_number(row["image"])
    found: Any = row.get("image_id", Path(row["image"]).stem) if number is None else number
    return found


class CaptionTestCollator(JsonCollator):
    """As :class:`JsonCollator`, ``image_id`` a list."""

    tensors = ()
