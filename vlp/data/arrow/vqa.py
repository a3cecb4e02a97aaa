"""VQAv2 -> ``vqav2_{train,val,test,test-dev,trainable_val,rest_val}`` (docs/official/meter.md §3.9)."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa

from vlp.data.arrow.writer import Row, Skips, Table, vqa_schema
from vlp.data.errors import DataError
from vlp.data.raw.answers import normalize_word, vqa_score
from vlp.data.raw.source import Source, read_json

_MIN_COUNT = 9  # an answer that is seen less often has no id
_HELD_OUT = 1000  # rows of the val split that rest_val keeps
_FILES = {"train": "train2014", "val": "val2014", "test": "test2015", "test-dev": "test-dev2015"}
_IMAGES = {"train": "train2014", "val": "val2014", "test": "test2015", "test-dev": "test2015"}


@dataclass(frozen=True)
class _Question:
    """A question and, outside the test splits, its answers of the vocabulary with ids and soft scores."""

    id: int
    text: str
    answers: list[str]
    labels: list[int]
    scores: list[float]


@dataclass(frozen=True)
class _Annotation:
    main: str  # the normalised multiple-choice answer
    raw: list[str]


def plan_vqa(source: Source) -> list[Table]:
    """Plan the tables of every split whose files are there; the answer ids need train and val together."""
    labelled = [name for split in ("train", "val") for name in (_questions(split), _annotations(split))]
    tables = []
    if source.optional("train, val, trainable_val, rest_val", *labelled):
        answers = {split: _read_annotations(source, split) for split in ("train", "val")}
        vocabulary = answer_vocabulary(entry.main for split in answers.values() for entry in split.values())
        source.found["answers"] = len(vocabulary)
        tables += [_plan(source, split, _label(source, split, answers[split], vocabulary)) for split in answers]
        val = tables[-1].total
        tables += [
            _part(source, "trainable_val", slice(None, -_HELD_OUT), max(0, val - _HELD_OUT)),
            _part(source, "rest_val", slice(-_HELD_OUT, None), min(val, _HELD_OUT)),
        ]
    for split in ("test", "test-dev"):
        if source.optional(split, _questions(split)):
            unlabelled: dict[int, list[_Question]] = {}
            for image, number, text in _read_questions(source, split):
                unlabelled.setdefault(image, []).append(_Question(number, text, [], [], []))
            tables.append(_plan(source, split, unlabelled))
    return tables


def answer_vocabulary(answers: Iterable[str]) -> dict[str, int]:
    """Return answer -> id for normalised answers that occur at least nine times, ids in order of first appearance."""
    counts = Counter(answers)
    return {answer: i for i, answer in enumerate(answer for answer, count in counts.items() if count >= _MIN_COUNT)}


def soft_labels(raw_answers: Sequence[str], vocabulary: dict[str, int]) -> tuple[list[str], list[int], list[float]]:
    """Return (answers, ids, scores) of a question from its ten raw answers, which are *not* normalised officially."""
    counts = {answer: n for answer, n in Counter(raw_answers).items() if answer in vocabulary}
    return list(counts), [vocabulary[answer] for answer in counts], [vqa_score(n) for n in counts.values()]


def _plan(source: Source, split: str, questions: dict[int, list[_Question]]) -> Table:
    paths: list[Path] = []
    seen: set[int] = set()
    for path in source.images(_IMAGES[split]):
        digits = path.stem.rpartition("_")[2]
        if not digits.isdecimal():
            source.skips.add("image whose name ends in no number", str(path))
        elif int(digits) not in questions:
            source.skips.add(f"image without question of {split}", path.name)
        else:
            paths.append(path)
            seen.add(int(digits))
    for image in questions:
        if image not in seen:
            source.skips.add(f"question of {split} without image", str(image), len(questions[image]))

    def rows(_: Skips) -> Iterator[Row]:
        for path in paths:
            image = int(path.stem.rpartition("_")[2])
            asked = questions[image]
            labelled = not split.startswith("test")
            yield {
                "image": path,
                "questions": [question.text for question in asked],
                "answers": [question.answers for question in asked] if labelled else [],
                "answer_labels": [question.labels for question in asked] if labelled else [],
                "answer_scores": [question.scores for question in asked] if labelled else [],
                "image_id": image,
                "question_id": [question.id for question in asked],
                "split": split,
            }

    return Table(f"vqav2_{split}", vqa_schema(not split.startswith("test")), rows, len(paths), texts="questions")


def _part(source: Source, name: str, part: slice, total: int) -> Table:
    """Plan a table of the rows ``part`` of the val table, which is on disk by then."""

    def rows(_: Skips) -> Iterator[Row]:
        with pa.memory_map(str(source.output / "vqav2_val.arrow")) as file:
            val = pa.ipc.open_file(file).read_all()
            start, stop, _step = part.indices(val.num_rows)
            for row in range(start, stop):
                yield val.slice(row, 1).to_pylist()[0]

    return Table(f"vqav2_{name}", vqa_schema(True), rows, total, texts="questions")


def _label(
    source: Source, split: str, annotations: dict[int, _Annotation], vocabulary: dict[str, int]
) -> dict[int, list[_Question]]:
    """Group the questions that have an answer of the vocabulary by image."""
    result: dict[int, list[_Question]] = {}
    for image, number, text in _read_questions(source, split):
        annotation = annotations.get(number)
        if annotation is None:
            source.skips.add(f"question of {split} without annotation", str(number))
            continue
        answers, labels, scores = soft_labels(annotation.raw, vocabulary)
        if answers:
            result.setdefault(image, []).append(_Question(number, text, answers, labels, scores))
        else:
            source.skips.add(f"question of {split} without an answer of the vocabulary", str(number))
    return result


def _read_questions(source: Source, split: str) -> Iterator[tuple[int, int, str]]:
    """Yield (image id, question id, question)."""
    path = source.root / _questions(split)
    for entry in _entries(path, "questions", ("image_id", "question_id", "question")):
        yield int(entry["image_id"]), int(entry["question_id"]), entry["question"]


def _read_annotations(source: Source, split: str) -> dict[int, _Annotation]:
    """Return question id -> answers, in file order."""
    path = source.root / _annotations(split)
    result = {}
    for entry in _entries(path, "annotations", ("question_id", "multiple_choice_answer", "answers")):
        raw = [sys.intern(answer["answer"]) for answer in entry["answers"]]  # millions of answers, few distinct ones
        result[int(entry["question_id"])] = _Annotation(normalize_word(entry["multiple_choice_answer"]), raw)
    return result


def _entries(path: Path, name: str, fields: tuple[str, ...]) -> list[dict[str, Any]]:
    """Return the list ``name`` of a JSON file after checking that every entry has ``fields``."""
    content = read_json(path)
    entries = content.get(name) if isinstance(content, dict) else None
    if not isinstance(entries, list):
        raise DataError(f"{path} holds no list {name!r}; is it the VQA v2 file of that name?")
    for number, entry in enumerate(entries):
        if missing := [field for field in fields if field not in entry]:
            raise DataError(f"{path}, {name}[{number}] lacks {', '.join(missing)}")
    return entries


def _questions(split: str) -> str:
    return f"v2_OpenEnded_mscoco_{_FILES[split]}_questions.json"


def _annotations(split: str) -> str:
    return f"v2_mscoco_{_FILES[split]}_annotations.json"
