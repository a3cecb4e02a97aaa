"""Neutral records: what an official raw layout says of an image, whatever format it is converted to.

Texts are as they stand in the raw files. A path is that of the image file below the root of the download; whether it
exists, can be read and decodes is found out when the file is read.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple


@dataclass(frozen=True, slots=True)
class CaptionedImage:
    """An image with its captions; none of them is empty.

    ``data`` is the content of an image that lies in an archive, whose ``path`` names archive and member; else None.
    """

    path: Path
    captions: Sequence[str]
    image_id: str
    split: str
    data: bytes | None = None


class Region(NamedTuple):  # five million of them in Visual Genome: a dataclass costs more than twice the time
    """A box in pixels (left and upper edge, width, height) and the phrase that describes what is in it."""

    phrase: str
    x: int
    y: int
    width: int
    height: int


@dataclass(frozen=True, slots=True)
class RegionImage:
    """An image with its described regions. Boxes are as annotated: some may reach beyond the image."""

    path: Path
    image_id: str
    regions: Sequence[Region]


@dataclass(frozen=True, slots=True)
class Question:
    """A question and the raw answers of its ten annotators; none where they are not published (test splits)."""

    question_id: int
    text: str
    answers: Sequence[str]


@dataclass(frozen=True, slots=True)
class QuestionedImage:
    """An image with the questions about it."""

    path: Path
    image_id: int
    split: str
    questions: Sequence[Question]


@dataclass(frozen=True, slots=True)
class Statement:
    """A sentence about two images and its label, "True" or "False"."""

    sentence: str
    label: str


@dataclass(frozen=True, slots=True)
class StatementPair:
    """Two images with the statements about them; ``pair_id`` is the part that the statements' identifiers share."""

    left: Path
    right: Path
    pair_id: str
    split: str
    statements: Sequence[Statement]


@dataclass(frozen=True, slots=True)
class Entailment:
    """A premise (a caption of the image), a hypothesis, and "contradiction", "neutral" or "entailment"."""

    premise: str
    hypothesis: str
    label: str


@dataclass(frozen=True, slots=True)
class EntailmentImage:
    """An image with the hypotheses about it."""

    path: Path
    image_id: str
    split: str
    entailments: Sequence[Entailment]


@dataclass(frozen=True, slots=True)
class ReferredObject:
    """An object of an image and the expressions that mean it alone.

    The box is (left, upper edge, width, height), in pixels of an image of ``frame`` = (width, height).
    """

    path: Path
    image_id: int
    ref_id: int
    split: str
    expressions: Sequence[str]
    box: tuple[float, float, float, float]
    frame: tuple[int, int]


class LabelledBox(NamedTuple):
    """A box (left and upper edge, width, height), what it shows in one or several wordings, and attributes of that."""

    captions: tuple[str, ...]
    box: tuple[float, float, float, float]
    attributes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class BoxedImage:
    """An image with its labelled boxes, and captions of the whole of it where there are any.

    Boxes are as annotated, in an image of ``frame`` = (width, height); (1, 1): they are shares; None: in the file's own
    pixels. Some may reach beyond the image.
    """

    path: Path
    elements: Sequence[LabelledBox]
    frame: tuple[int, int] | None = None
    captions: Sequence[str] = ()
