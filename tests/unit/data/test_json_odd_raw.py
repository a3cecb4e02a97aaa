"""Raw downloads that are not what they should be, on their way to JSON lists: counted, or refused in one line."""

from __future__ import annotations

import io
import json
import os
import pickle
import re
import tempfile
from collections.abc import Callable
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.unit.data.odd import ODD, places, replaced
from tests.unit.data.raw import image_bytes, write
from tests.unit.data.test_odd_raw import LAYOUTS, coco_layout, labelled_vqa
from vlp.data.json.__main__ import main
from vlp.data.json.convert import convert

REFS, INSTANCES, DETS = (f"raw/refcoco+/{name}" for name in ("refs(unc).p", "instances.json", "dets.json"))


def ref(number: int = 0, split: str = "train", image: int = 1, sent: Any = "red ball") -> dict[str, Any]:
    sentences = [{"sent": sent, "raw": sent, "tokens": [], "sent_id": number}]
    return {"ref_id": number, "ann_id": 7, "image_id": image, "split": split, "sentences": sentences, "category_id": 1}


def refcoco(root: Path, *refs: Any) -> None:
    """RefCOCO+ with the images 1 and 2, annotation 7 and these references."""
    images = [{"id": n, "file_name": f"COCO_train2014_{n:012d}.jpg", "width": 40, "height": 30} for n in (1, 2)]
    instances = {"images": images, "annotations": [{"id": 7, "image_id": 1, "bbox": [1, 2, 3, 4]}], "categories": []}
    write(root / "refcoco+/instances.json", json.dumps(instances))
    write(root / "refcoco+/dets.json", json.dumps({"1": [[1, 2, 3, 4, 0.9]], "2": []}))
    write(root / "refcoco+/refs(unc).p", pickle.dumps(list(refs)))
    for image in images:
        write(root / "train2014" / str(image["file_name"]), image_bytes())


def vg_qa(root: Path, question: Any = "What is it?", answer: Any = "A dog.") -> None:
    pair = {"image_id": 1, "qa_id": 10, "question": question, "answer": answer}
    write(root / "annotations/question_answers.json", json.dumps([{"id": 1, "qas": [pair]}]))
    write(root / "images/VG_100K/1.jpg", image_bytes())


def converted(folder: Path, name: str) -> dict[str, int]:
    """Convert ``folder/raw``: how much was left out by reason."""
    manifest = convert(name, folder / "raw", folder / "data", quiet=True)
    return {reason: entry["count"] for reason, entry in manifest.all_skips().items()}


def items(folder: Path, name: str) -> list[dict[str, Any]]:
    result: list[dict[str, Any]] = json.loads((folder / "data" / name).read_bytes())
    return result


def refused(folder: Path, capsys: pytest.CaptureFixture[str], name: str = "refcoco+") -> str:
    """The one line that a conversion of ``folder/raw`` ends with; nothing is left."""
    assert main(["convert", name, "--root", str(folder / "raw"), "--output", str(folder / "data")]) == 1
    printed = capsys.readouterr()
    (line,) = printed.err.splitlines()
    assert line.startswith("error: ") and not printed.out and not (folder / "data").exists()
    return line


# RefCOCO+ -----------------------------------------------------------------------------------------------------


def test_expressions_that_cannot_be_used_are_counted(tmp_path: Path) -> None:
    refcoco(
        tmp_path / "raw",
        ref(0, sent="a \ud83d ball"),
        ref(1, sent=" "),
        ref(2, split="test"),
        ref(3, "val", image=2, sent="big one"),
    )
    assert converted(tmp_path, "refcoco+") == {
        "lone surrogate in a text, replaced by U+FFFD": 1,
        "empty expression": 1,
        "object with empty expressions only": 1,
        "split 'test' is not one of train val testA testB": 1,
    }
    assert [item["text"] for item in items(tmp_path, "refcoco+_train.json")] == ["a \ufffd ball"]
    assert [item["ref_id"] for item in items(tmp_path, "refcoco+_val.json")] == [3]
    assert items(tmp_path, "refcoco+_test.json") == []


def test_an_image_that_is_trained_on_and_evaluated(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    refcoco(tmp_path / "raw", ref(0), ref(1, "testB"))
    assert f"{tmp_path / REFS}: image 1 is in split train and in split testB" in refused(tmp_path, capsys)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"image_id": 3}, "element 1 is not in refer's format: ValueError('image 3 is not among the images of"),
        ({"ann_id": 8}, "element 1 is not in refer's format: ValueError('annotation 8 is not among those of"),
        ({"ref_id": "x"}, "element 1 is not in refer's format: ValueError"),
        ({"sentences": [{"sent": 5}]}, "element 1 is not in refer's format: TypeError('5 is no text')"),
        ({"sentences": None}, "element 1 is not in refer's format: TypeError"),
    ],
)
def test_a_reference_that_is_none(
    change: dict[str, Any], words: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    refcoco(tmp_path / "raw", ref(0), ref(1) | change)
    line = refused(tmp_path, capsys)
    assert f"{tmp_path / REFS}, {words}" in line


def test_references_that_are_no_list(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    refcoco(tmp_path / "raw")
    contents: list[Any] = [{"refs": []}, [1], "refs"]
    for content in contents:
        write(tmp_path / REFS, pickle.dumps(content))
        assert f"{tmp_path / REFS} holds no list of dictionaries" in refused(tmp_path, capsys)


class Evil:
    """Runs a command when it is unpickled."""

    def __init__(self, command: str) -> None:
        self.command = command

    def __reduce__(self) -> tuple[Callable[..., object], tuple[object, ...]]:
        return os.system, (self.command,)


def test_a_pickle_with_code_in_it_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    refcoco(tmp_path / "raw", ref(0) | {"split": Evil(f"touch {tmp_path / 'made'}")})
    line = refused(tmp_path, capsys)
    assert f"{tmp_path / REFS} holds more than lists" in line and not (tmp_path / "made").exists()


def test_deep_nesting_in_a_pickle(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Where a text belongs: no message of it can be made."""
    refcoco(tmp_path / "raw")
    deep = b"]" * 100_000 + b"a" * 99_999
    write(
        tmp_path / REFS,
        b"](}(V" + b"ref_id\nK\x01Vann_id\nK\x07Vimage_id\nK\x01Vsentences\n](}Vsent\n" + deep + b"seue.",
    )
    assert f"{tmp_path / REFS}, element 0 is not in refer's format" in refused(tmp_path, capsys)


@pytest.mark.parametrize(
    ("file", "content", "words"),
    [
        (INSTANCES, {"images": [{"id": 1}], "annotations": []}, "images[0] is not in COCO's format"),
        (INSTANCES, {"images": []}, "is not in COCO's format"),
        (INSTANCES, [], "images is not in COCO's format"),
        (INSTANCES, {"images": [], "annotations": [{"id": 7, "bbox": [1, 2]}]}, "annotations[0] is not in COCO's"),
        (DETS, [], "expected {image id: [[x, y, width, height], …]}"),
        (DETS, {"1": [[1, 2, 3]]}, "image '1': expected"),
        (DETS, {"one": []}, "image 'one': expected"),
    ],
)
def test_files_beside_the_references(
    file: str, content: Any, words: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    refcoco(tmp_path / "raw", ref(0))
    write(tmp_path / file, json.dumps(content))
    line = refused(tmp_path, capsys)
    assert str(tmp_path / file) in line and words in line


def test_an_image_name_that_leaves_the_root(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    refcoco(tmp_path / "raw", ref(0))
    content = (tmp_path / INSTANCES).read_text().replace("COCO_train2014_000000000001.jpg", "../../secret.jpg")
    write(tmp_path / INSTANCES, content)
    assert "annotation names a file outside" in refused(tmp_path, capsys)


# Visual Genome's questions ------------------------------------------------------------------------------------


def test_questions_without_text_or_answer_are_counted(tmp_path: Path) -> None:
    vg_qa(tmp_path / "raw")
    content = json.loads((tmp_path / "raw/annotations/question_answers.json").read_text())
    (good,) = content[0]["qas"]
    content[0]["qas"] += [good | {"qa_id": 11, "question": " "}, good | {"qa_id": 12, "answer": ""}]
    content.append({"id": 2, "qas": [good | {"qa_id": 13, "image_id": 2}]})
    write(tmp_path / "raw/annotations/question_answers.json", json.dumps(content))
    assert converted(tmp_path, "vg_qa") == {"question without text or answer": 2, "annotation without image": 1}
    item = {"dataset": "vg", "image": "images/VG_100K/1.jpg", "question": "What is it?", "question_id": 10}
    assert items(tmp_path, "vg_qa.json") == [{**item, "answer": "dog"}]


@pytest.mark.parametrize("answer", ["the", "A.", "!"])
def test_an_answer_of_which_nothing_is_left(answer: str, tmp_path: Path) -> None:
    vg_qa(tmp_path / "raw")
    content = json.loads((tmp_path / "raw/annotations/question_answers.json").read_text())
    content[0]["qas"].append(content[0]["qas"][0] | {"qa_id": 11, "answer": answer})
    write(tmp_path / "raw/annotations/question_answers.json", json.dumps(content))
    assert converted(tmp_path, "vg_qa") == {"question without text or answer": 1}
    assert len(items(tmp_path, "vg_qa.json")) == 1


def test_questions_in_another_format(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    wrong = {"qa_id": "x", "image_id": 1}
    contents: list[Any] = [[{"questions": []}], [{"qas": [{"qa_id": 1}]}], [5], [{"qas": [wrong]}]]
    for content in contents:
        write(tmp_path / "raw/annotations/question_answers.json", json.dumps(content))
        line = refused(tmp_path, capsys, "vg_qa")
        assert "question_answers.json is not in Visual Genome's format" in line and "at element 1" in line


# VQA v2 -------------------------------------------------------------------------------------------------------


def test_a_question_that_nobody_answered(tmp_path: Path) -> None:
    labelled_vqa(tmp_path / "raw", "good")
    path = tmp_path / "raw/v2_mscoco_train2014_annotations.json"
    path.write_text(json.dumps({"annotations": [{"question_id": 10, "multiple_choice_answer": "", "answers": []}]}))
    assert converted(tmp_path, "vqa") == {
        "question of train without an answer": 1,
        "image without question of train": 1,
    }
    assert len(items(tmp_path, "vqa_val.json")) == 1
    manifest = json.loads((tmp_path / "data/vqa.manifest.json").read_bytes())
    assert manifest["answers"] == 9 or "answer_list.json" in manifest["not_written"]


# Anything ------------------------------------------------------------------------------------------------------

PLACES: dict[str, tuple[str, Callable[[Path, Any], None]]] = {
    **{layout: (name, write_layout) for layout, (name, write_layout, _, _) in LAYOUTS.items()},
    "coco": ("coco", coco_layout),
    "labelled vqa": ("vqa", labelled_vqa),
    "vg_qa": ("vg_qa", vg_qa),
    "refcoco+": ("refcoco+", lambda root, sent: refcoco(root, ref(0, sent=sent), ref(1, "val", image=2))),
}


@settings(max_examples=25, deadline=None)
@given(data=st.data())
@pytest.mark.parametrize("layout", PLACES)
def test_any_value_in_any_place_is_taken_or_refused_in_one_line(layout: str, data: st.DataObject) -> None:
    name, write_layout = PLACES[layout]
    with tempfile.TemporaryDirectory() as folder:
        raw = Path(folder, "raw")
        write_layout(raw, "good")
        files = sorted(path for path in raw.rglob("*.*") if path.suffix in (".json", ".jsonl", ".p"))
        file = data.draw(st.sampled_from(files))
        pickled = file.suffix == ".p"
        value = pickle.loads(file.read_bytes()) if pickled else json.loads(file.read_bytes())
        place = data.draw(st.sampled_from(places(value)))
        odd = replaced(value, place, data.draw(st.sampled_from(ODD)))
        file.write_bytes(pickle.dumps(odd) if pickled else json.dumps(odd).encode())
        said = io.StringIO()
        with redirect_stdout(io.StringIO()), redirect_stderr(said):
            status = main(["convert", name, "--root", str(raw), "--output", str(Path(folder, "data"))])
        assert status == 0 or re.fullmatch("error: .*\n", said.getvalue()), said.getvalue()
        for path in Path(folder).glob("data/*.json"):
            json.loads(path.read_bytes())
