"""Rows of official lists: what is read is what the files hold, and what is wrong is named by file and row."""

from __future__ import annotations

import json
import pickle
import tempfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.unit.data.lists import write_list
from vlp.data.errors import DataError
from vlp.data.json import kinds
from vlp.data.json.answers import read_answers
from vlp.data.json.fields import RowKind
from vlp.data.json.rows import JsonRows, Place

TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
ROWS = st.lists(
    st.fixed_dictionaries(
        {"image": TEXT.filter(lambda name: name and "\0" not in name), "caption": TEXT | st.lists(TEXT, min_size=1)},
        optional={"more": st.integers() | TEXT},
    ),
    min_size=1,
    max_size=5,
)


@settings(max_examples=60, deadline=None)
@given(st.lists(ROWS, min_size=1, max_size=3), st.booleans(), st.sampled_from([None, 2]))
def test_rows_are_those_of_the_files_in_order(
    lists: list[list[dict[str, Any]]], ascii: bool, indent: int | None
) -> None:
    with tempfile.TemporaryDirectory() as folder:
        paths = [Path(folder, f"list{i}.json") for i in range(len(lists))]
        for path, rows in zip(paths, lists, strict=True):
            path.write_text(json.dumps(rows, ensure_ascii=ascii, indent=indent), encoding="utf-8")
        read = pickle.loads(pickle.dumps(JsonRows(paths, kinds.CAPTIONS)))
        expected = [(path, i, row) for path, rows in zip(paths, lists, strict=True) for i, row in enumerate(rows)]
        assert list(read) == [row for _, _, row in expected]
        for index, (path, row, _) in enumerate(expected):
            assert read.place(index) == Place(path.stem, row)
            assert read.describe(index) == f"{path}: row {row}"
        for outside in (-1, len(read)):
            with pytest.raises(IndexError):
                read[outside]


def test_lists_of_one_stem_have_two_names(tmp_path: Path) -> None:
    path = write_list(tmp_path / "a.json", [{"image": "1.jpg", "caption": "x"}])
    assert JsonRows([path, path, tmp_path / "a.json"], kinds.CAPTIONS).names == ["a", "a#2", "a#3"]


GOOD: dict[str, tuple[RowKind, dict[str, Any]]] = {
    "pre-training": (kinds.CAPTIONS, {"image": "/a/1.jpg", "caption": ["x", "y"]}),
    "retrieval train": (kinds.RETRIEVAL_TRAIN, {"image": "1.jpg", "caption": "x", "image_id": "coco_1"}),
    "retrieval eval": (kinds.RETRIEVAL_EVAL, {"image": "1.jpg", "caption": ["x"]}),
    "vqa": (
        kinds.QUESTIONS_TRAIN,
        {"dataset": "vqa", "image": "1.jpg", "question": "x", "answer": ["a"] * 10, "question_id": 1},
    ),
    "vg": (kinds.QUESTIONS_TRAIN, {"dataset": "vg", "image": "1.jpg", "question": "x", "answer": "a"}),
    "vqa test": (kinds.QUESTIONS_TEST, {"dataset": "vqa", "image": "1.jpg", "question": "x", "question_id": 1}),
    "nlvr": (kinds.STATEMENTS, {"images": ["1.png", "2.png"], "sentence": "x", "label": "True"}),
    "ve": (kinds.ENTAILMENTS, {"image": "1", "sentence": "x", "label": "neutral"}),
    "grounding train": (kinds.GROUNDING_TRAIN, {"image": "1.jpg", "text": "x"}),
    "grounding test": (kinds.GROUNDING_TEST, {"image": "1.jpg", "text": "x", "ref_id": 3}),
}


@pytest.mark.parametrize("name", GOOD)
def test_every_field_is_needed_and_has_a_type(tmp_path: Path, name: str) -> None:
    kind, row = GOOD[name]
    assert list(JsonRows([write_list(tmp_path / "l.json", [row, {**row, **_other_identity(name)}])], kind))
    for field in kind.fields:
        without = {key: value for key, value in row.items() if key != field}
        _refused(tmp_path, kind, row, without, rf"row 1: lacks '{field}'", name)
        lone = () if field == "image_id" else ("\ud800",)  # which no tokenizer reads
        for wrong in (None, 1.5, True, {"a": 1}, [], [1], *lone):
            _refused(tmp_path, kind, row, {**row, field: wrong}, rf"row 1: '{field}'", name)


def _other_identity(name: str) -> dict[str, Any]:
    return {"image": "2.jpg"} if name == "retrieval eval" else {"question_id": 2} if name.startswith("vqa") else {}


def _refused(folder: Path, kind: RowKind, row: Any, wrong: Any, message: str, name: str = "") -> None:
    path = write_list(folder / "l.json", [{**row, **_other_identity(name)}, wrong])
    with pytest.raises(DataError, match=f"l.json: {message}"):
        JsonRows([path], kind)


@pytest.mark.parametrize(
    ("name", "change", "message"),
    [
        ("pre-training", {"image": ""}, "'image' is no file name"),
        ("pre-training", {"image": "a\0b"}, "'image' is no file name"),
        ("nlvr", {"label": True}, "'label' must be 'True' or 'False', not the boolean True"),
        ("nlvr", {"label": "true"}, "'label' must be 'True' or 'False', not 'true'"),
        ("nlvr", {"images": ["1.png"]}, "'images' must be a list of two file names, left and right, not list of 1"),
        ("ve", {"label": "-"}, "'label' must be 'contradiction' or 'neutral' or 'entailment', not '-'"),
        ("vqa", {"dataset": "gqa"}, "'dataset' must be 'vqa' or 'vg', not 'gqa'"),
        ("vqa", {"answer": "yes"}, "'answer' of dataset vqa must be a list of strings"),
        ("vg", {"answer": ["yes"]}, "'answer' of dataset vg must be one string"),
        ("vqa", {"question_id": [1]}, "'question_id' must be an integer"),
        ("vqa test", {"question_id": "1"}, "'question_id' must be an integer, not string"),
    ],
)
def test_values_that_mean_nothing_are_refused(tmp_path: Path, name: str, change: dict[str, Any], message: str) -> None:
    kind, row = GOOD[name]
    _refused(tmp_path, kind, row, {**row, **change}, f"row 1: {message}", name)


def test_rows_are_objects(tmp_path: Path) -> None:
    kind, row = GOOD["pre-training"]
    for wrong in (1, "x", None, [1, 2]):
        _refused(tmp_path, kind, row, wrong, "row 1: is .* not an object with image, caption")


@pytest.mark.parametrize("name", ["vqa", "vqa test", "retrieval eval"])
def test_identities_stand_once(tmp_path: Path, name: str) -> None:
    kind, row = GOOD[name]
    path = write_list(tmp_path / "l.json", [row, {**row, **_other_identity(name)}, row])
    with pytest.raises(DataError, match=r"l.json: row 2: .* is there already \(.*l.json: row 0\)"):
        JsonRows([path], kind)
    once = write_list(tmp_path / "l.json", [row])
    assert len(JsonRows([once, once], kind)) == 2
    with pytest.raises(DataError, match=r"m.json: row 0: .* is there already \(.*l.json: row 0\)"):
        JsonRows([once, write_list(tmp_path / "m.json", [row])], kind, across=True)
    with pytest.raises(DataError, match=r"l.json: row 0: .* is there already"):
        JsonRows([once, once], kind, across=True)


def test_a_list_that_is_empty_or_not_given_is_refused(tmp_path: Path) -> None:
    full = write_list(tmp_path / "full.json", [GOOD["pre-training"][1]])
    with pytest.raises(DataError, match=r"empty.json is an empty list: pre-training rows with image"):
        JsonRows([full, write_list(tmp_path / "empty.json", [])], kinds.CAPTIONS)
    with pytest.raises(DataError, match="no list of pre-training rows is given"):
        JsonRows([], kinds.CAPTIONS)


def test_candidate_answers(tmp_path: Path) -> None:
    path = tmp_path / "answers.json"
    path.write_text('["yes", "no", "2"]')
    assert read_answers(path) == ["yes", "no", "2"]
    for text, message in (('["yes", 2]', "row 1: an answer must be a string, not number"), ("[]", "is an empty list")):
        path.write_text(text)
        with pytest.raises(DataError, match=message):
            read_answers(path)


def test_rows_take_little_more_memory_than_their_file(tmp_path: Path) -> None:
    rows = [{"image": f"{i:012d}.jpg", "caption": "a man riding a red bike"} for i in range(20_000)]
    path = write_list(tmp_path / "l.json", rows)
    assert len(pickle.dumps(JsonRows([path], kinds.CAPTIONS))) < 1.2 * path.stat().st_size + 10_000
