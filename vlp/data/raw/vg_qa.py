"""Visual Genome's questions and answers: a long JSON list beside the two image folders."""

from __future__ import annotations

from vlp.data.conversion.skips import Skips
from vlp.data.errors import DataError
from vlp.data.json_stream import iter_json_list
from vlp.data.raw.answers import normalize_word
from vlp.data.raw.lazy import LazyRecords
from vlp.data.raw.records import Question, QuestionedImage
from vlp.data.raw.source import Source
from vlp.data.raw.vg import annotated_images

_ANNOTATION = "annotations/question_answers.json"


def read_vg_qa(source: Source) -> LazyRecords[QuestionedImage]:
    """Read ``annotations/question_answers.json``: the images of both folders in shuffled order.

    A question has one answer, as it stands in the file ("On the street.").
    """
    questions = _read_questions(source)
    paths = annotated_images(source, questions)

    def build(number: int, _: Skips) -> QuestionedImage:
        path = paths[number]
        return QuestionedImage(path, int(path.stem), "train", questions[path.stem])

    return LazyRecords(range(len(paths)), build)


def _read_questions(source: Source) -> dict[str, list[Question]]:
    """Read the questions of every image, by image id, in file order; those without text or answer are left out.

    An answer of articles and marks alone is none.
    """
    path = source.root / _ANNOTATION
    result: dict[str, list[Question]] = {}
    number = 0
    try:
        for image in iter_json_list(path):
            number += 1
            for pair in image["qas"]:
                image_id, question_id = str(int(pair["image_id"])), int(pair["qa_id"])
                text, answer = (source.text(pair[field], f"question {question_id}") for field in ("question", "answer"))
                if text.strip() and normalize_word(answer):
                    result.setdefault(image_id, []).append(Question(question_id, text, (answer,)))
                else:
                    source.skips.add("question without text or answer", str(question_id))
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        raise DataError(
            f"{path} is not in Visual Genome's format (list of qas[]: image_id, qa_id, question, answer): {error!r} "
            f"at element {number}"
        ) from error
    source.found["annotated images"] = len(result)
    return result
