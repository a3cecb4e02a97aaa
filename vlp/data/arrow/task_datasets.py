"""VQAv2, NLVR2 and SNLI-VE samples (docs/official/meter.md §3.3)."""

from __future__ import annotations

import random

from vlp.data.arrow.dataset import ArrowDataset, Sample
from vlp.data.errors import DataError


class VqaDataset(ArrowDataset):
    """Samples with image, text (the question), vqa_answer, vqa_labels, vqa_scores, qid.

    The answers are strings, their ids and soft scores; on the test split the three lists are empty.
    """

    def build(self, index: int, rng: random.Random) -> Sample:
        """Return the sample of question ``index``."""
        index, (views,) = self.read(index, rng)
        row, number = self.row(index), int(self.tables.numbers[index])
        sample: Sample = {"image": views, "text": self.tables.text(index)}
        columns = {"vqa_answer": "answers", "vqa_labels": "answer_labels", "vqa_scores": "answer_scores"}
        for key, column in columns.items():
            sample[key] = [] if self.split == "test" else self.tables.cell(row, column)[number]
        return {**sample, "qid": self.tables.cell(row, "question_id")[number]}

    def answers(self) -> dict[int, str]:
        """Return id -> answer over this split, sorted by id.

        Raises:
            DataError: one id stands for two answers: the tables come from conversions with different vocabularies.
        """
        result: dict[int, str] = {}
        for answer, label in self.tables.distinct("answers", "answer_labels"):
            if result.setdefault(label, answer) != answer:
                raise DataError(
                    f"VQAv2 tables disagree: id {label} is {result[label]!r} and {answer!r}; convert train and val "
                    "together: python -m vlp.data.arrow vqa"
                )
        return dict(sorted(result.items()))


class Nlvr2Dataset(ArrowDataset):
    """Samples with image_0, image_1, text, answers (bool: the statement is true), table_name."""

    image_columns = ("image_0", "image_1")

    def build(self, index: int, rng: random.Random) -> Sample:
        """Return the sample of statement ``index``."""
        index, (left, right) = self.read(index, rng)
        row, number = self.row(index), int(self.tables.numbers[index])
        return {
            "image_0": left,
            "image_1": right,
            "text": self.tables.text(index),
            "answers": self.tables.cell(row, "answers")[number] == "True",
            "table_name": self.tables.table_name(row),
        }


class SnliDataset(ArrowDataset):
    """Samples with image, text (the hypothesis, stripped), labels (0 contradiction, 1 neutral, 2 entailment),
    table_name. The premise is not used."""

    def build(self, index: int, rng: random.Random) -> Sample:
        """Return the sample of hypothesis ``index``."""
        index, (views,) = self.read(index, rng)
        row, number = self.row(index), int(self.tables.numbers[index])
        return {
            "image": views,
            "text": self.tables.text(index),
            "labels": self.tables.cell(row, "labels")[number],
            "table_name": self.tables.table_name(row),
        }
