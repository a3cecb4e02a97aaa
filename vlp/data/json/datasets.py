"""Captions, questions, statements and phrases of JSON lists as samples.

Source: docs/official/albef.md §3.
"""

from __future__ import annotations

import os
import random
from collections import Counter
from collections.abc import Hashable, Iterable, Sequence
from pathlib import Path

import numpy as np

from vlp.data.json.dataset import JsonDataset, Roots, Sample
from vlp.data.json.fields import Row
from vlp.data.json.kinds import (
    CAPTIONS,
    GROUNDING_TEST,
    GROUNDING_TRAIN,
    QUESTIONS_TEST,
    QUESTIONS_TRAIN,
    RETRIEVAL_EVAL,
    RETRIEVAL_TRAIN,
    STATEMENTS,
)
from vlp.data.json.text import pre_caption, pre_question
from vlp.data.json.transforms import ImageTransform

SEP = "[SEP]"  # what ends an answer
_WEIGHT_OF_VG = 0.5
_WORDS_OF_A_TEST_QUESTION = 50


class PretrainDataset(JsonDataset):
    """Image-text pairs: ``text``, one caption of the row, drawn where it has a list of them."""

    kind, training = CAPTIONS, True

    def fields(self, index: int, row: Row, rng: random.Random) -> Sample:
        caption = row["caption"]
        return {"text": pre_caption(caption if isinstance(caption, str) else rng.choice(caption))}

    def captions(self, row: Row) -> list[str]:
        caption = row["caption"]
        return [pre_caption(each) for each in ([caption] if isinstance(caption, str) else caption)]


class RetrievalTrainDataset(JsonDataset):
    """Image-text pairs with ``text`` and ``image_id``, the number of the image by first appearance."""

    kind, training = RETRIEVAL_TRAIN, True

    def __init__(self, paths: Sequence[str | Path], roots: Roots, transform: ImageTransform, seed: int = 0) -> None:
        super().__init__(paths, roots, transform, seed)
        self.image_ids = numbered(row["image_id"] for row in self.rows)

    def fields(self, index: int, row: Row, rng: random.Random) -> Sample:
        return {"text": pre_caption(row["caption"]), "image_id": int(self.image_ids[index])}


class RetrievalEvalDataset(JsonDataset):
    """Images with ``image_index``, the row over all lists.

    Attributes:
        text: every cleaned caption, one image after the other.
        img2txt: image -> the numbers of its captions.
        txt2img: caption -> the number of its image.
    """

    kind, training = RETRIEVAL_EVAL, False

    def __init__(self, paths: Sequence[str | Path], roots: Roots, transform: ImageTransform, seed: int = 0) -> None:
        super().__init__(paths, roots, transform, seed)
        self.text: list[str] = []
        self.img2txt: dict[int, list[int]] = {}
        self.txt2img: dict[int, int] = {}
        for image, row in enumerate(self.rows):
            numbers = range(len(self.text), len(self.text) + len(row["caption"]))
            self.text += map(pre_caption, row["caption"])
            self.img2txt[image] = list(numbers)
            self.txt2img |= dict.fromkeys(numbers, image)

    def fields(self, index: int, row: Row, rng: random.Random) -> Sample:
        return {"image_index": index}


class QuestionDataset(JsonDataset):
    """What both data sets of questions share: the folder of an image is that of the row's source."""

    def root_key(self, row: Row) -> str:
        return f"{row['dataset']}_root"


class QuestionTrainDataset(QuestionDataset):
    """``text``, the question; ``answers``, each closed by [SEP], and ``answer_weights``: see :func:`weighted`."""

    kind, training = QUESTIONS_TRAIN, True

    def fields(self, index: int, row: Row, rng: random.Random) -> Sample:
        answers = weighted(row["answer"])
        return {
            "text": pre_question(row["question"]),
            "answers": [answer + SEP for answer in answers],
            "answer_weights": list(answers.values()),
        }


class QuestionTestDataset(QuestionDataset):
    """``text``, the question; ``question_id``; ``answers``, those of the annotators where the list has them, else none.

    Attributes:
        answer_list: the candidates that an answer is chosen from.
    """

    kind, training = QUESTIONS_TEST, False
    answer_list: list[str]

    def fields(self, index: int, row: Row, rng: random.Random) -> Sample:
        return {
            "text": pre_question(row["question"], _WORDS_OF_A_TEST_QUESTION),
            "question_id": row["question_id"],
            "answers": row.get("answer", []),
        }


class StatementDataset(JsonDataset):
    """``images``, the left and the right one; ``text``, the statement; ``labels``, 1 where it is "True", else 0."""

    kind = STATEMENTS

    def names(self, row: Row) -> list[str]:
        return list(row["images"])

    def fields(self, index: int, row: Row, rng: random.Random) -> Sample:
        return {"text": pre_caption(row["sentence"]), "labels": int(row["label"] == "True")}


class StatementTrainDataset(StatementDataset):
    """Statements to learn from."""

    training = True


class StatementTestDataset(StatementDataset):
    """Statements to judge."""

    training = False


class GroundingTrainDataset(JsonDataset):
    """Image-phrase pairs: ``text`` and ``image_id``, the number of the image file by first appearance of its name."""

    kind, training = GROUNDING_TRAIN, True

    def __init__(self, paths: Sequence[str | Path], roots: Roots, transform: ImageTransform, seed: int = 0) -> None:
        super().__init__(paths, roots, transform, seed)
        self.image_ids = numbered(os.path.basename(row["image"]) for row in self.rows)

    def fields(self, index: int, row: Row, rng: random.Random) -> Sample:
        return {"text": pre_caption(row["text"]), "image_id": int(self.image_ids[index])}


class GroundingTestDataset(JsonDataset):
    """``text``, the phrase, and ``ref_id``, the object that it means."""

    kind, training = GROUNDING_TEST, False

    def fields(self, index: int, row: Row, rng: random.Random) -> Sample:
        return {"text": pre_caption(row["text"]), "ref_id": row["ref_id"]}


def numbered(values: Iterable[Hashable]) -> np.ndarray:
    """The number of each value, 0 for the first, the next number for each one that is new: int32 (rows,)."""
    numbers: dict[Hashable, int] = {}
    return np.fromiter((numbers.setdefault(value, len(numbers)) for value in values), dtype=np.int32)


def weighted(answer: str | Sequence[str]) -> dict[str, float]:
    """The distinct answers in order of first appearance, each with its weight.

    It is the share of the annotators who gave it; one answer alone, as Visual Genome has it, weighs a half.
    """
    if isinstance(answer, str):
        return {answer: _WEIGHT_OF_VG}
    return {text: count / len(answer) for text, count in Counter(answer).items()}
