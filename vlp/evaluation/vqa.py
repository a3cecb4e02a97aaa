"""Answers to VQAv2's test questions, in the file that its evaluation server takes (SPEC §7.2)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from torch import Tensor

from vlp.files import write_json
from vlp.training.rng import gathered

UNKNOWN = "unknown"  # the official answer where an id stands for none


class Predictions:
    """The best answer id of every question that this rank has seen."""

    def __init__(self) -> None:
        self._of_question: dict[int, int] = {}

    def add(self, question_ids: Sequence[int], logits: Tensor) -> None:
        """Take the best of logits (B, C) for each of the B questions."""
        best = logits.argmax(dim=-1).tolist()
        self._of_question.update(zip(map(int, question_ids), best, strict=True))

    def of_all_ranks(self) -> dict[int, int]:
        """Question id -> answer id on every rank, sorted; a question that padding gave to two ranks counts once.

        Every rank must call it.
        """
        merged = {question: answer for part in gathered(self._of_question) for question, answer in part.items()}
        return dict(sorted(merged.items()))


def write_submission(path: Path, predictions: Mapping[int, int], answers: Mapping[int, str]) -> None:
    """Write ``[{"question_id": …, "answer": …}, …]`` atomically; ``answers`` is the vocabulary, id -> answer."""
    entries = [
        {"question_id": question, "answer": answers.get(answer, UNKNOWN)} for question, answer in predictions.items()
    ]
    write_json(path, entries)
