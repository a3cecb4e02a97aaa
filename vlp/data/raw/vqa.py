"""VQA v2: a JSON file of questions and one of annotations a split, joined on the question id.

The reading is in three steps, so that a format may leave out questions before they meet their images.
Source: docs/official/meter.md §3.9.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vlp.data.conversion.skips import Skips
from vlp.data.errors import DataError
from vlp.data.raw.lazy import LazyRecords
from vlp.data.raw.records import Question, QuestionedImage
from vlp.data.raw.source import Source, read_json

LABELLED, UNLABELLED = ("train", "val"), ("test", "test-dev")
_FILES = {"train": "train2014", "val": "val2014", "test": "test2015", "test-dev": "test-dev2015"}
_IMAGES = {"train": "train2014", "val": "val2014", "test": "test2015", "test-dev": "test2015"}


@dataclass(frozen=True, slots=True)
class Annotation:
    """What the ten annotators of a question answered, and the answer that was chosen from theirs; both raw."""

    multiple_choice_answer: str
    answers: tuple[str, ...]


def question_file(split: str) -> str:
    """Return the name of the questions' file."""
    return f"v2_OpenEnded_mscoco_{_FILES[split]}_questions.json"


def annotation_file(split: str) -> str:
    """Return the name of the annotations' file of a labelled split."""
    return f"v2_mscoco_{_FILES[split]}_annotations.json"


def read_annotations(source: Source, split: str) -> dict[int, Annotation]:
    """Read the annotations of a labelled split: question id -> annotation, in file order."""
    path = source.root / annotation_file(split)
    result = {}
    for place, entry in _entries(path, "annotations", ("question_id", "multiple_choice_answer", "answers")):
        try:
            number, chosen = _number(entry["question_id"]), source.text(entry["multiple_choice_answer"], place)
            texts = (source.text(answer["answer"], place) for answer in entry["answers"])
            result[number] = Annotation(chosen, tuple(map(sys.intern, texts)))  # millions, few distinct ones
        except (KeyError, TypeError, ValueError, OverflowError) as error:
            raise DataError(f"{path}, {place} is not in VQA v2's format: {error!r}") from error
    return result


def read_questions(
    source: Source, split: str, annotations: Mapping[int, Annotation] | None = None
) -> Iterator[tuple[int, Question]]:
    """Yield (image id, question) in file order; without ``annotations`` (test splits) questions have no answers.

    A question that ``annotations`` lacks is left out.
    """
    path = source.root / question_file(split)
    for place, entry in _entries(path, "questions", ("image_id", "question_id", "question")):
        try:
            image_id, number = _number(entry["image_id"]), _number(entry["question_id"])
            text = source.text(entry["question"], place)
        except (TypeError, ValueError, OverflowError) as error:
            raise DataError(f"{path}, {place} is not in VQA v2's format: {error!r}") from error
        if annotations is None:
            yield image_id, Question(number, text, ())
        elif number in annotations:
            yield image_id, Question(number, text, annotations[number].answers)
        else:
            source.skips.add(f"question of {split} without annotation", str(number))


def join_images(source: Source, split: str, questions: Iterable[tuple[int, Question]]) -> LazyRecords[QuestionedImage]:
    """Group ``questions`` by image, in shuffled order; the number at the end of a file's name is the image id."""
    by_image: dict[int, list[Question]] = {}
    for image_id, question in questions:
        by_image.setdefault(image_id, []).append(question)
    paths: list[Path] = []
    seen: set[int] = set()
    for path in source.images(_IMAGES[split]):
        digits = _last_part(path)
        if not (digits.isascii() and digits.isdecimal() and len(digits) < 19):
            source.skips.add("image whose name ends in no number", str(path))
        elif int(digits) not in by_image:
            source.skips.add(f"image without question of {split}", path.name)
        elif int(digits) in seen:
            source.skips.add("second image of the same number", path.name)
        else:
            paths.append(path)
            seen.add(int(digits))
    for image_id in by_image:
        if image_id not in seen:
            source.skips.add(f"question of {split} without image", str(image_id), len(by_image[image_id]))

    def build(number: int, _: Skips) -> QuestionedImage:
        path = paths[number]
        image_id = int(_last_part(path))
        return QuestionedImage(path, image_id, split, by_image[image_id])

    return LazyRecords(range(len(paths)), build)


def _last_part(path: Path) -> str:
    return path.stem.rpartition("_")[2]


def _number(value: Any) -> int:
    """Return an id, which the tables hold in 64 bits."""
    number = int(value)
    if not -(2**63) <= number < 2**63:
        raise ValueError(f"{number} has more than 64 bits")
    return number


def _entries(path: Path, name: str, fields: tuple[str, ...]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield the place and the value of every entry of the list ``name`` of a JSON file; each has ``fields``."""
    content = read_json(path)
    entries = content.get(name) if isinstance(content, dict) else None
    if not isinstance(entries, list):
        raise DataError(f"{path} holds no list {name!r}; is it the VQA v2 file of that name?")
    for number, entry in enumerate(entries):
        place = f"{name}[{number}]"
        if not isinstance(entry, dict):
            raise DataError(f"{path}, {place} is no object with {', '.join(fields)}")
        if missing := [field for field in fields if field not in entry]:
            raise DataError(f"{path}, {place} lacks {', '.join(missing)}")
        yield place, entry
