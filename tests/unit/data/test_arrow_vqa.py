"""METER's and ViLT's answers: who has an id, which scores a question has, which questions are left out."""

from __future__ import annotations

import json
from pathlib import Path

from tests.unit.data.raw import image_bytes, read_table, write
from vlp.data.arrow.convert import convert
from vlp.data.arrow.vqa import soft_labels, vqa_score


def test_score_grows_to_one() -> None:
    assert [vqa_score(count) for count in range(6)] == [0.0, 0.3, 0.6, 0.9, 1.0, 1.0]


def test_raw_answers_are_looked_up_as_they_are() -> None:
    answers = ["2", "Two", "dog", "2", "dog", "2", "dog", "dog", "rare", "yes"]
    expected = (["2", "dog", "yes"], [4, 7, 0], [0.9, 1.0, 0.3])
    assert soft_labels(answers, {"yes": 0, "2": 4, "dog": 7}) == expected


def test_questions_without_an_answer_of_the_vocabulary_are_not_in_the_table(tmp_path: Path) -> None:
    """Nine questions whose chosen answer is "Yes.", one of them answered otherwise by all, and a rare answer."""
    raw = tmp_path / "raw"
    answers = {number: ("Yes.", "yes") for number in range(9)} | {3: ("Yes.", "aye"), 9: ("zebra", "zebra")}
    questions = [{"image_id": 7, "question_id": n, "question": f"q {n}?"} for n in answers]
    annotations = [
        {"question_id": n, "multiple_choice_answer": chosen, "answers": [{"answer": given}] * 10}
        for n, (chosen, given) in answers.items()
    ]
    for name, part in (("train2014", slice(None)), ("val2014", slice(0))):
        write(raw / f"v2_OpenEnded_mscoco_{name}_questions.json", json.dumps({"questions": questions[part]}))
        write(raw / f"v2_mscoco_{name}_annotations.json", json.dumps({"annotations": annotations[part]}))
        write(raw / f"{name}/COCO_{name}_{7:012d}.jpg", image_bytes())
    manifest = convert("vqa", raw, tmp_path / "arrow", quiet=True)
    (row,) = read_table(tmp_path / "arrow/vqav2_train.arrow")
    assert row["question_id"] == [0, 1, 2, 4, 5, 6, 7, 8]
    assert (row["answers"], row["answer_labels"], row["answer_scores"]) == ([["yes"]] * 8, [[0]] * 8, [[1.0]] * 8)
    skipped = manifest.skipped["question of train without an answer of the vocabulary"]
    assert skipped == {"count": 2, "examples": ["3", "9"]}
