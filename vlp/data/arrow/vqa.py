"""VQAv2 -> ``vqav2_{train,val,test,test-dev,trainable_val,rest_val}``.

METER and ViLT answer from a vocabulary: answers that are frequent enough have an id, and each question's answers among
them a soft score. Questions without such an answer are not in the tables. Source: docs/official/meter.md §3.9.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path

import pyarrow as pa

from vlp.data.arrow.rows import table_of
from vlp.data.arrow.writer import Row, Table, vqa_schema
from vlp.data.conversion.skips import Skips
from vlp.data.raw.answers import frequent_answers, normalize_word
from vlp.data.raw.records import Question, QuestionedImage
from vlp.data.raw.source import Source
from vlp.data.raw.vqa import (
    LABELLED,
    UNLABELLED,
    annotation_file,
    join_images,
    question_file,
    read_annotations,
    read_questions,
)
from vlp.files import regular

_HELD_OUT = 1000  # rows of the val split that rest_val keeps


def plan_vqa(source: Source, folder: Path) -> list[Table]:
    """Plan the tables of every split whose files are there; the answer ids need train and val together.

    trainable_val and rest_val are parts of the val table, which lies in ``folder`` when they are written.
    """
    tables = []
    labelled = [name for split in LABELLED for name in (question_file(split), annotation_file(split))]
    if source.optional("train, val, trainable_val, rest_val", *labelled):
        tables += _labelled_tables(source)
        val = tables[-1]
        tables += [
            _part("trainable_val", val, folder, slice(None, -_HELD_OUT), max(0, val.total - _HELD_OUT)),
            _part("rest_val", val, folder, slice(-_HELD_OUT, None), min(val.total, _HELD_OUT)),
        ]
    for split in UNLABELLED:
        if source.optional(split, question_file(split)):
            images = join_images(source, split, read_questions(source, split))
            tables.append(table_of(f"vqav2_{split}", vqa_schema(False), images, question_row, texts="questions"))
    return tables


def vqa_score(count: int) -> float:
    """Soft score of an answer that `count` of the ten annotators gave: 0, 0.3, 0.6, 0.9, then 1."""
    return (0.0, 0.3, 0.6, 0.9)[count] if count < 4 else 1.0


def soft_labels(raw_answers: Sequence[str], vocabulary: Mapping[str, int]) -> tuple[list[str], list[int], list[float]]:
    """Return (answers, ids, scores) of a question from its ten raw answers, which are *not* normalised officially."""
    counts = {answer: n for answer, n in Counter(raw_answers).items() if answer in vocabulary}
    return list(counts), [vocabulary[answer] for answer in counts], [vqa_score(n) for n in counts.values()]


def question_row(image: QuestionedImage, vocabulary: Mapping[str, int] | None = None) -> Row:
    """An image with all its questions; without ``vocabulary`` (test splits) the lists of answers are empty."""
    labels = [] if vocabulary is None else [soft_labels(question.answers, vocabulary) for question in image.questions]
    return {
        "image": image.path,
        "questions": [question.text for question in image.questions],
        "answers": [answers for answers, _, _ in labels],
        "answer_labels": [ids for _, ids, _ in labels],
        "answer_scores": [scores for _, _, scores in labels],
        "image_id": image.image_id,
        "question_id": [question.question_id for question in image.questions],
        "split": image.split,
    }


def _labelled_tables(source: Source) -> list[Table]:
    annotations = {split: read_annotations(source, split) for split in LABELLED}
    chosen = (entry.multiple_choice_answer for split in annotations.values() for entry in split.values())
    vocabulary = {answer: i for i, answer in enumerate(frequent_answers(map(normalize_word, chosen)))}
    source.found["answers"] = len(vocabulary)
    row = partial(question_row, vocabulary=vocabulary)
    tables = []
    for split in LABELLED:
        questions = read_questions(source, split, annotations[split])
        images = join_images(source, split, _answerable(source, split, questions, vocabulary))
        tables.append(table_of(f"vqav2_{split}", vqa_schema(True), images, row, texts="questions"))
    return tables


def _answerable(
    source: Source, split: str, questions: Iterable[tuple[int, Question]], vocabulary: Mapping[str, int]
) -> Iterator[tuple[int, Question]]:
    """Leave out the questions without an answer of the vocabulary."""
    for image_id, question in questions:
        if any(answer in vocabulary for answer in question.answers):
            yield image_id, question
        else:
            source.skips.add(f"question of {split} without an answer of the vocabulary", str(question.question_id))


def _part(name: str, val: Table, folder: Path, part: slice, total: int) -> Table:
    """Plan a table of the rows ``part`` of the val table, which is on disk by then."""

    def rows(_: Skips) -> Iterator[Row]:
        with pa.memory_map(str(regular(folder / f"{val.name}.arrow"))) as file:
            table = pa.ipc.open_file(file).read_all()
            start, stop, _step = part.indices(table.num_rows)
            for row in range(start, stop):
                yield table.slice(row, 1).to_pylist()[0]

    return Table(f"vqav2_{name}", val.schema, rows, total, texts=val.texts)
