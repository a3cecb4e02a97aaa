"""Answers to VQAv2's test questions, in the file that its evaluation server takes (docs/official/meter.md §7.2)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from torch import Tensor

from vlp.distributed import gathered
from vlp.files import write_json

UNKNOWN = "unknown"  # the official answer where an id stands for none


class Predictions:
    """The best answer id of every question: ``of_question`` is question id -> answer id."""

    def __init__(self) -> None:
        self.of_question: dict[int, int] = {}

    def add(self, question_ids: Sequence[int], logits: Tensor) -> None:
        """Take the best of logits (B, C) for each of the B questions."""
        best = logits.argmax(dim=-1).tolist()
        self.of_question.update(zip(map(int, question_ids), best, strict=True))

    def gather(self) -> None:
        """Take in those of all ranks, in the order of the ids; every rank must call it.

        A question that the sampler's padding gave to two ranks still counts once.
        """
        merged = {question: answer for part in gathered(self.of_question) for question, answer in part.items()}
        self.of_question = dict(sorted(merged.items()))


def write_submission(path: Path, predictions: Predictions, answers: Mapping[int, str]) -> None:
    """Write ``[{"question_id": …, "answer": …}, …]`` atomically; ``answers`` is the vocabulary, id -> answer."""
    chosen = predictions.of_question.items()
    write_json(path, [{"question_id": question, "answer": answers.get(best, UNKNOWN)} for question, best in chosen])
