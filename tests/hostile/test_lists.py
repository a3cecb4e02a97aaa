"""Lists, candidates, references and images that are not what they should be, through runs of ALBEF's scripts."""

from __future__ import annotations

import json
import os
import pickle
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from albef.baseline import BASELINE
from tests.hostile.groups import IMAGES, LISTS, PIPES, RAW, TOKENS
from tests.hostile.harness import Ended, keeps_its_promise, nothing_changes
from tests.hostile.table import Case, Row, each_case
from tests.unit.albef.task_runs import SCRIPTS, config_of, write_data
from tests.unit.data.raw import image_bytes
from vlp.yaml_dialect.run import run

OUT = "run"  # of the run, below a case's folder


class Touch:
    """Pickled, a call of a command."""

    def __reduce__(self) -> tuple[Any, tuple[str]]:
        return os.system, ("touch ran",)


def rows_of(path: Path) -> list[Any]:
    return json.loads(path.read_text())


def changed(name: str, change: Callable[[list[Any]], object]) -> Callable[[Path], object]:
    """A list whose rows ``change`` has changed in place."""

    def make(folder: Path) -> None:
        rows = rows_of(folder / name)
        change(rows)
        (folder / name).write_text(json.dumps(rows))

    return make


def content(name: str, data: str | bytes) -> Callable[[Path], object]:
    return lambda folder: (folder / name).write_bytes(data.encode() if isinstance(data, str) else data)


def case(group: str, script: str, name: str, make: Callable[[Path], object], *words: str, begun: bool = False) -> Case:
    """``begun``: only images that are read tell."""
    return Case(name, Row(group, script, 1, words), make, OUT if begun else "")


def link_out(folder: Path) -> None:
    """An image that is a link to a file beside the folder."""
    (folder.parent / "secret.png").write_bytes(image_bytes())
    (folder / "0.png").unlink()
    (folder / "0.png").symlink_to(folder.parent / "secret.png")


def pipe(name: str) -> Callable[[Path], object]:
    def make(folder: Path) -> None:
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).unlink(missing_ok=True)
        os.mkfifo(folder / name)

    return make


def without_images(folder: Path) -> None:
    for path in folder.glob("*.jpg"):
        path.unlink()


def in_japanese(rows: list[Any]) -> None:
    for row in rows:
        row.update({name: "犬 が 雪 を 走る" for name in ("caption", "sentence", "question", "text") if name in row})


def as_pieces(rows: list[Any]) -> None:
    for row in rows:
        row["caption"] = "surf ##board ##s"


SAID = ("train.json: of ", "100% of the tokens are [UNK]", "does not fit the texts", "becomes '[UNK] [UNK]")
CASES = [
    *(
        case(LISTS, "VE", name, content("VE_train.json", data), "VE_train.json", *words)
        for name, data, words in (
            ("empty file", "", ()),
            ("text", "no list", ()),
            ("cut", '[{"image": "1", "sentence": "w0", ', ()),
            ("an object", '{"image": "1"}', ()),
            ("an empty list", "[]", ()),
            ("numbers", "[1, 2]", ("row 0",)),
            ("deep", "[" * 200_000, ()),
            ("no UTF-8", b'[{"image": "\xff"}]', ()),
            ("NaN for a text", '[{"image": "1", "sentence": NaN, "label": "neutral"}]', ("row 0", "sentence")),
            ("a pickle", pickle.dumps([Touch()]), ()),
            ("a number of 5000 digits", "[1" + "0" * 5000 + "]", ()),
        )
    ),
    *(
        case(TOKENS, script, f"{kind} of another script", changed(f"{script}_train.json", in_japanese), *SAID)
        for script, kind in (("VE", "sentences"), ("VQA", "questions"), ("Grounding", "phrases"))
    ),
    case(TOKENS, "Pretrain", "captions of another script", changed("train.json", in_japanese), *SAID),
    case(
        *(TOKENS, "Pretrain", "pieces for captions", changed("train.json", as_pieces)),
        *("train.json: of ", 'of the words begin with "##"', "becomes"),
    ),
    case(LISTS, "VE", "a row without label", changed("VE_test.json", lambda r: r[3].pop("label")), "row 3", "label"),
    case(LISTS, "VQA", "an answer for answers", changed("VQA_train.json", lambda r: r[2].update(answer="w0")), "row 2"),
    case(LISTS, "VQA", "a question twice", changed("VQA_test.json", lambda r: r.append(r[0])), "VQA_test.json: row 6"),
    case(LISTS, "VQA", "candidates that are none", content("answers.json", "[3]"), "answers.json: row 0"),
    case(LISTS, "VQA", "no candidates", content("answers.json", "[]"), "answers.json"),
    case(LISTS, "Retrieval", "no captions", changed("Retrieval_test.json", lambda r: r[1].update(caption=[])), "row 1"),
    case(LISTS, "NLVR", "one image", changed("NLVR_train.json", lambda r: r[4].update(images=["1.png"])), "row 4"),
    case(LISTS, "Grounding", "boxes of a list", content("dets.json", "[]"), "dets.json"),
    case(
        LISTS,
        "Grounding",
        "a box of NaN",
        content("dets.json", '{"0": [[0, 0, NaN, 9]]}'),
        "dets.json, image '0'",
        "nan",
    ),
    case(RAW, "Grounding", "references that run", lambda f: references(f, pickle.dumps([Touch()])), "refs(unc).p"),
    case(RAW, "Grounding", "references that are cut", lambda f: references(f, b"]}(V"), "refs(unc).p"),
    case(RAW, "Grounding", "references of text", lambda f: references(f, b"no pickle"), "refs(unc).p"),
    case(
        *(IMAGES, "NLVR", "a name that leaves the folder"),
        changed("NLVR_train.json", lambda r: r[5].update(images=["../1.png", "2.png"])),
        *("NLVR_train.json: row 5", "../1.png", "allow_outside_root"),
    ),
    case(
        *(IMAGES, "Pretrain", "an absolute name"),
        changed("train.json", lambda r: r[5].update(image="/etc/passwd")),
        *("train.json: row 5", "/etc/passwd", "allow_outside_root"),
    ),
    case(IMAGES, "Pretrain", "a link that leaves", link_out, "train.json: row 0", "allow_outside_root", begun=True),
    case(IMAGES, "VE", "no images at all", without_images, "not one of the images", "image_root"),
    case(IMAGES, "VE", "a broken one in an evaluation", content("2.jpg", "text"), "VE_test.json: row 2", begun=True),
    case(PIPES, "VE", "a list that is a pipe", pipe("VE_train.json"), "VE_train.json is not a regular file"),
    case(
        *(PIPES, "VE", "an image that is a pipe in an evaluation", pipe("2.jpg")),
        *("VE_test.json: row 2", "2.jpg: is a pipe, not a file"),
        begun=True,
    ),
    *(
        case(PIPES, "VE", f"{name} that is a pipe", pipe(f"{OUT}/{name}"), f"{OUT}/{name}", "is a pipe, not a file")
        for name in ("metrics.jsonl", "log.txt")
    ),
    case(
        *(IMAGES, "VE", "a strip in an evaluation"),
        content("2.jpg", image_bytes(size=(1, 20_000))),
        *("VE_test.json: row 2", "1 x 20000 pixels"),
        begun=True,
    ),
]


def references(folder: Path, data: bytes) -> None:
    (folder / "refcoco+/refs(unc).p").write_bytes(data)


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Whole data of all scripts, and the folder that the run is in."""
    (tmp_path / "place").mkdir()
    write_data(tmp_path / "place")
    monkeypatch.chdir(tmp_path / "place")
    yield tmp_path / "place"


def ended(script: str, config: dict[str, Any], capsys: pytest.CaptureFixture[str]) -> Ended:
    capsys.readouterr()
    with pytest.raises(SystemExit) as end:
        run(BASELINE, script, config)
    printed = "".join(capsys.readouterr())
    return Ended(1 if isinstance(end.value.code, str) else int(end.value.code or 0), f"{printed}\n{end.value.code}")


@each_case(CASES)
def test_what_a_run_reads(case: Case, place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    script = case.row.line
    case.make(place)
    config = config_of(script, place, output_dir=str(place / OUT), schedular={"epochs": 1})
    with nothing_changes(place, but=case.written):
        found = ended(script, config, capsys)
    keeps_its_promise(case.row, found)
    assert found.output.splitlines()[-1].startswith("error: ")
    assert not list(place.rglob("*.pth"))


@pytest.mark.parametrize("script", SCRIPTS)
def test_any_of_its_lists_may_be_absent(script: str, place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = config_of(script, place, output_dir=str(place / OUT))
    for key in ("train_file", "val_file", "test_file", "answer_list", "det_file"):
        if key in config:
            given = "none.json" if isinstance(config[key], str) else ["none.json"]
            row = Row(LISTS, script, 1, ("none.json",))
            with nothing_changes(place):
                keeps_its_promise(row, ended(script, {**config, key: given}, capsys))
