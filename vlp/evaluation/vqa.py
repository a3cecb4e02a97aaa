"""Answers to VQAv2's questions: the file that its evaluation server takes, and its accuracy where annotations are here.

Source: docs/official/meter.md §7.2, docs/official/albef.md §7.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from torch import Tensor

from vlp.data.raw.answers import normalize_word
from vlp.distributed import gathered
from vlp.files import write_json

UNKNOWN = "unknown"  # the official answer where an id stands for none


class Predictions:
    """The best answer id of every question: ``of_question`` is question id -> answer id."""

    def __init__(self) -> None:
        self.of_question: dict[int, int] = {}

    def add(self, question_ids: Sequence[int], logits: Tensor) -> None:
        """Take the best of logits (B, C) for each of the B questions."""
        self.take(question_ids, logits.argmax(dim=-1).tolist())

    def take(self, question_ids: Sequence[int], answer_ids: Sequence[int]) -> None:
        """Take an answer for each of the questions."""
        self.of_question.update(zip(map(int, question_ids), answer_ids, strict=True))

    def gather(self) -> None:
        """Take in those of all ranks, in the order of the ids; every rank must call it.

        A question that the sampler's padding gave to two ranks still counts once.
        """
        merged = {question: answer for part in gathered(self.of_question) for question, answer in part.items()}
        self.of_question = dict(sorted(merged.items()))


def answer_accuracy(answer: str, annotated: Sequence[str]) -> float:
    """VQAv2's accuracy of one answer, 0 to 1: min(matches / 3, 1), averaged over leaving one annotator out each time.

    Both sides are normalised as the official evaluation does it. A single annotated answer is right or wrong.
    """
    given = normalize_word(answer)
    hits = [normalize_word(other) == given for other in annotated]
    if len(hits) == 1:
        return float(hits[0])
    return sum(min((sum(hits) - left_out) / 3, 1.0) for left_out in hits) / len(hits)


def write_submission(path: Path, predictions: Predictions, answers: Mapping[int, str]) -> None:
    """Write ``[{"question_id": …, "answer": …}, …]`` atomically; ``answers`` is the vocabulary, id -> answer."""
    chosen = predictions.of_question.items()
    write_json(path, [{"question_id": question, "answer": answers.get(best, UNKNOWN)} for question, best in chosen])
