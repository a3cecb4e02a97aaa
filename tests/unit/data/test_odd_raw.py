"""Raw downloads that are not what they should be: counted, or refused in one line; nothing hangs, nothing is lost."""

from __future__ import annotations

import io
import json
import os
import re
import socket
import subprocess
import sys
import tempfile
from collections.abc import Callable
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.unit.data.odd import ODD, places, replaced
from tests.unit.data.raw import coco, image_bytes, read_table, write, write_coco
from vlp.data.arrow.__main__ import main
from vlp.data.arrow.convert import convert
from vlp.data.arrow.manifest import Manifest

TRAIN = "coco_caption_karpathy_train"


def converted(folder: Path, name: str = "coco") -> tuple[Manifest, dict[str, int]]:
    """Convert ``folder/raw`` into ``folder/arrow``: the manifest, and how much was left out by reason."""
    manifest = convert(name, folder / "raw", folder / "arrow", quiet=True)
    return manifest, {reason: entry["count"] for reason, entry in manifest.all_skips().items()}


def refused(capsys: pytest.CaptureFixture[str], *arguments: str | Path) -> str:
    """The one line that a conversion ends with."""
    assert main(list(map(str, arguments))) == 1
    printed = capsys.readouterr()
    (line,) = printed.err.splitlines()
    assert line.startswith("error: ") and not printed.out
    return line


def in_time(name: str, root: Path, output: Path) -> str:
    """What a conversion says on stderr, in a process that may not hang."""
    command = [sys.executable, "-m", "vlp.data.arrow", name, "--root", str(root), "--output", str(output)]
    return subprocess.run(command, capture_output=True, text=True, timeout=60).stderr


def karpathy(root: Path, *entries: tuple[str, str, str, list[str]]) -> None:
    """Karpathy's JSON of (folder or "", file name, split, captions)."""
    images = [
        {"filename": name, "split": split, "sentences": [{"raw": text} for text in texts]}
        | ({"filepath": folder} if folder else {})
        for folder, name, split, texts in entries
    ]
    write(root / "karpathy/dataset_coco.json", json.dumps({"images": images}))


# Names -------------------------------------------------------------------------------------------------------


def test_two_entries_of_one_image_are_one_image_with_all_captions(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    entries = [("a.jpg", ["one", "two"]), ("b.jpg", ["b"]), ("a.jpg", ["three", " "])]
    karpathy(tmp_path / "raw", *(("train2014", name, "train", texts) for name, texts in entries))
    for name in ("a.jpg", "b.jpg"):
        write(tmp_path / "raw/train2014" / name, image_bytes())
    main(["coco", "--root", str(tmp_path / "raw"), "--output", str(tmp_path / "arrow")])
    rows = {row["image_id"]: row["caption"] for row in read_table(tmp_path / f"arrow/{TRAIN}.arrow")}
    assert rows == {"a.jpg": ["one", "two", "three"], "b.jpg": ["b"]}
    output = " ".join(capsys.readouterr().out.split())
    assert "1 annotations joined with an earlier one of the same image, 2 annotations" in output


def test_an_image_in_two_splits_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    karpathy(tmp_path / "raw", *(("", "a.jpg", split, ["x"]) for split in ("train", "train", "test")))
    write(tmp_path / "raw/train2014/a.jpg", image_bytes())
    line = refused(capsys, "coco", "--root", tmp_path / "raw", "--output", tmp_path / "arrow")
    assert "dataset_coco.json: a.jpg is in split train (images[0]) and in split test (images[2]); delete one" in line
    assert not (tmp_path / "arrow").exists()


def test_a_name_is_unique_within_its_folder(tmp_path: Path) -> None:
    """Two images of one name in two folders are two images, with two ids."""
    karpathy(tmp_path / "raw", ("train2014", "a.jpg", "train", ["left"]), ("val2014", "a.jpg", "restval", ["right"]))
    for number, folder in enumerate(("train2014", "val2014")):
        write(tmp_path / "raw" / folder / "a.jpg", image_bytes(number))
    manifest, skipped = converted(tmp_path)
    found = [
        (row["image_id"], row["caption"], row["image"])
        for split in ("train", "restval")
        for row in read_table(tmp_path / f"arrow/coco_caption_karpathy_{split}.arrow")
    ]
    expected = [("train2014/a.jpg", ["left"], image_bytes(0)), ("val2014/a.jpg", ["right"], image_bytes(1))]
    assert found == expected and not skipped and manifest.found["annotations"] == 2


@pytest.mark.parametrize("given", ["val2014", ""])
def test_an_entry_belongs_to_the_image_of_its_folder(given: str, tmp_path: Path) -> None:
    karpathy(tmp_path / "raw", (given, "a.jpg", "train", ["x"]))
    for number, folder in enumerate(("train2014", "val2014")):
        write(tmp_path / "raw" / folder / "a.jpg", image_bytes(number))
    _, skipped = converted(tmp_path)
    (row,) = read_table(tmp_path / f"arrow/{TRAIN}.arrow")
    assert row["image_id"] == "a.jpg"
    if given:
        assert row["image"] == image_bytes(1) and skipped == {"image without annotation": 1}
    else:
        assert skipped == {"second image of the same name": 1}


def test_a_file_name_may_be_anything(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """No UTF-8, markup of the terminal: counted by name, and printed as it is."""
    write_coco(tmp_path / "raw", coco(images=1))
    odd = os.fsencode(tmp_path / "raw/train2014") + b"/\xff\xfe.jpg"
    Path(os.fsdecode(odd)).write_bytes(image_bytes())
    write(tmp_path / "raw/train2014/[red]x[1].jpg", image_bytes())
    assert main(["coco", "--root", str(tmp_path / "raw"), "--output", str(tmp_path / "arrow")]) == 0
    output = capsys.readouterr().out
    assert "file whose name is no UTF-8: rename it: 1 (e.g. " in output and r"train2014/\udcff\udcfe.jpg" in output
    assert "train2014/[red]x[1].jpg)" in output


# Files -------------------------------------------------------------------------------------------------------


def test_what_is_no_regular_file_is_never_opened(tmp_path: Path) -> None:
    names = [f"COCO_train2014_{i:012d}.jpg" for i in range(5)]
    write_coco(tmp_path / "raw", {name: ("train", ["x"]) for name in names}, names[:1])
    fifo, listening, device, folder = (tmp_path / "raw/train2014" / name for name in names[1:])
    os.mkfifo(fifo)
    with socket.socket(socket.AF_UNIX) as server:
        here = Path.cwd()
        os.chdir(listening.parent)  # a socket's path may have 107 bytes
        server.bind(listening.name)
        os.chdir(here)
        device.symlink_to("/dev/zero")
        folder.mkdir()
        in_time("coco", tmp_path / "raw", tmp_path / "arrow")
    manifest = Manifest.read(tmp_path / "arrow", "coco")
    assert manifest is not None
    (skipped,) = manifest.all_skips().items()
    assert skipped[0] == "image is no regular file" and skipped[1]["count"] == 4
    assert sorted(skipped[1]["examples"]) == [
        f"{path}: {kind}"
        for path, kind in ((fifo, "a FIFO"), (listening, "a socket"), (device, "a device"), (folder, "a folder"))
    ]
    assert [row["image_id"] for row in read_table(tmp_path / f"arrow/{TRAIN}.arrow")] == names[:1]


def test_an_annotation_file_that_is_a_fifo(tmp_path: Path) -> None:
    for name, file in (("coco", "karpathy/dataset_coco.json"), ("vg", "annotations/region_descriptions.json")):
        (tmp_path / name / file).parent.mkdir(parents=True)
        os.mkfifo(tmp_path / name / file)
        (line,) = in_time(name, tmp_path / name, tmp_path / "arrow").splitlines()
        assert f"{file} is not a regular file" in line


def test_a_name_that_no_file_can_have_is_counted(tmp_path: Path) -> None:
    lines = [
        {"Flickr30K_ID": name, "sentence1": "p", "sentence2": "h", "gold_label": "neutral"}
        for name in ("good", "a\0b", "long" * 100, "\ud800")
    ]
    write(tmp_path / "raw/snli_ve_train.jsonl", "\n".join(map(json.dumps, lines)))
    write(tmp_path / "raw/Flickr30K/images/good.jpg", image_bytes())
    _, skipped = converted(tmp_path, "snli")
    assert skipped == {
        "lone surrogate in a text, replaced by U+FFFD": 1,
        "image cannot be read": 2,
        "annotation without image": 1,
    }


def test_an_extreme_shape_is_left_out_where_images_are_verified(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    names = [f"COCO_train2014_{i:012d}.jpg" for i in range(2)]
    write_coco(tmp_path / "raw", {name: ("train", ["x"]) for name in names})
    write(tmp_path / "raw/train2014" / names[1], image_bytes(size=(1, 20_000)))
    converted(tmp_path)
    assert main(["check", str(tmp_path / "arrow"), "--verify-images"]) == 1
    assert "image does not decode (1 x 20000 pixels: more than 20 times" in capsys.readouterr().out
    manifest = convert("coco", tmp_path / "raw", tmp_path / "arrow", verify_images=True, quiet=True)
    (example,) = manifest.tables[TRAIN].skipped["image does not decode"]["examples"]
    assert f"{names[1]}: 1 x 20000 pixels" in example and manifest.tables[TRAIN].rows == 1


# Texts -------------------------------------------------------------------------------------------------------


def test_a_lone_surrogate_is_replaced_and_counted(tmp_path: Path) -> None:
    write_coco(tmp_path / "raw", {"COCO_train2014_000000000001.jpg": ("train", ["a \ud83d dog", "\U0001f415"])})
    _, skipped = converted(tmp_path)
    (row,) = read_table(tmp_path / f"arrow/{TRAIN}.arrow")
    assert row["caption"] == ["a \ufffd dog", "\U0001f415"]
    assert skipped == {"lone surrogate in a text, replaced by U+FFFD": 1}


def web(root: Path, caption: str) -> None:
    write(root / "annot.json", json.dumps([["a.jpg", caption]]))
    write(root / "images_train/0/a.jpg", image_bytes())


def img2dataset(root: Path, caption: str) -> None:
    write(root / "00000/0.json", json.dumps({"caption": caption}))
    write(root / "00000/0.jpg", image_bytes())


def vg(root: Path, caption: str) -> None:
    region = {"image_id": 1, "phrase": caption, "x": 0, "y": 0, "width": 1, "height": 1}
    write(root / "annotations/region_descriptions.json", json.dumps([{"regions": [region]}]))
    write(root / "images/VG_100K/1.jpg", image_bytes())


def nlvr2(root: Path, caption: str) -> None:
    line = {"identifier": "train-1-0-0", "sentence": caption, "label": "True", "directory": 1}
    write(root / "nlvr2/data/train.json", json.dumps(line))
    for side in (0, 1):
        write(root / f"images/train/1/train-1-0-img{side}.png", image_bytes(kind="PNG"))


def snli(root: Path, caption: str) -> None:
    line = {"Flickr30K_ID": "1", "sentence1": "p", "sentence2": caption, "gold_label": "neutral"}
    write(root / "snli_ve_train.jsonl", json.dumps(line))
    write(root / "Flickr30K/images/1.jpg", image_bytes())


def vqa(root: Path, caption: str) -> None:
    question = {"image_id": 1, "question_id": 10, "question": caption}
    write(root / "v2_OpenEnded_mscoco_test2015_questions.json", json.dumps({"questions": [question]}))
    write(root / "test2015/COCO_test2015_000000000001.jpg", image_bytes())


LAYOUTS: dict[str, tuple[str, Callable[[Path, Any], None], str, str]] = {
    "web": ("sbu", web, "sbu_0", "caption"),
    "img2dataset": ("sbu", img2dataset, "sbu_0", "caption"),
    "vg": ("vg", vg, "vg", "caption"),
    "nlvr2": ("nlvr2", nlvr2, "nlvr2_train", "questions"),
    "snli": ("snli", snli, "snli_train", "sentences"),
    "vqa": ("vqa", vqa, "vqav2_test", "questions"),
}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_lone_surrogate_in_every_layout(layout: str, tmp_path: Path) -> None:
    name, write_layout, table, column = LAYOUTS[layout]
    write_layout(tmp_path / "raw", "a \udfff b")
    _, skipped = converted(tmp_path, name)
    (row,) = read_table(tmp_path / f"arrow/{table}.arrow")
    assert "a \ufffd b" in str(row[column])
    assert skipped == {"lone surrogate in a text, replaced by U+FFFD": 1}


@pytest.mark.parametrize("layout", [name for name in LAYOUTS if name != "img2dataset"])
def test_a_text_that_is_none_is_refused_by_its_place(
    layout: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    name, write_layout, _, _ = LAYOUTS[layout]
    write_layout(tmp_path / "raw", 7)
    line = refused(capsys, name, "--root", tmp_path / "raw", "--output", tmp_path / "arrow")
    assert ".json" in line and ("7 is no text" in line or "expected [path, caption], got ['a.jpg', 7]" in line)


# JSON --------------------------------------------------------------------------------------------------------

DEEP = "[" * 200_000


@pytest.mark.parametrize(
    ("name", "file"),
    [
        ("coco", "karpathy/dataset_coco.json"),
        ("vg", "annotations/region_descriptions.json"),
        ("sbu", "annot.json"),
        ("snli", "snli_ve_train.jsonl"),
        ("vqa", "v2_OpenEnded_mscoco_test2015_questions.json"),
    ],
)
def test_deep_or_foreign_json_is_one_line(
    name: str, file: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write(tmp_path / "images_train/0/a.jpg", image_bytes())
    for content, message in (
        (DEEP, "nested too deep"),
        (b"[\xff\xfe", r"not valid JSON|UTF-8|utf-8"),
        ('{"a": ' + "9" * 5000 + "}", ""),
    ):
        write(tmp_path / file, content)
        line = refused(capsys, name, "--root", tmp_path, "--output", tmp_path / "arrow")
        assert file in line and any(part in line for part in message.split("|")) and len(line) < 500


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"image_id": "x"}, "questions[0] is not in VQA v2's format"),
        ({"question_id": 2**70}, "questions[0] is not in VQA v2's format: ValueError"),
        ({"question_id": None}, "questions[0] is not in VQA v2's format"),
        (None, "questions[0] is no object with image_id, question_id, question"),
    ],
)
def test_an_entry_of_vqa_that_is_none(
    change: dict[str, Any] | None, message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    good = {"image_id": 1, "question_id": 10, "question": "q"}
    entry = 5 if change is None else good | change
    write(tmp_path / "v2_OpenEnded_mscoco_test2015_questions.json", json.dumps({"questions": [entry]}))
    line = refused(capsys, "vqa", "--root", tmp_path, "--output", tmp_path / "arrow")
    assert f"v2_OpenEnded_mscoco_test2015_questions.json, {message}" in line


def test_a_statement_that_is_neither_true_nor_false_is_counted(tmp_path: Path) -> None:
    nlvr2(tmp_path / "raw", "good")
    line = {"identifier": "train-1-0-1", "sentence": "unsure", "label": "-", "directory": 1}
    with open(tmp_path / "raw/nlvr2/data/train.json", "a") as handle:
        handle.write("\n" + json.dumps(line))
    _, skipped = converted(tmp_path, "nlvr2")
    (row,) = read_table(tmp_path / "arrow/nlvr2_train.arrow")
    assert row["questions"] == ["good"] and skipped == {"label '-'": 1}


# Anything ----------------------------------------------------------------------------------------------------


def coco_layout(root: Path, caption: str) -> None:
    write_coco(root, {"COCO_train2014_000000000001.jpg": ("train", [caption, "b"])})


def labelled_vqa(root: Path, caption: str) -> None:
    answers = [{"question_id": 10, "multiple_choice_answer": "yes", "answers": [{"answer": "yes"}] * 2}] * 9
    for split in ("train2014", "val2014"):
        question = {"image_id": 1, "question_id": 10, "question": caption}
        write(root / f"v2_OpenEnded_mscoco_{split}_questions.json", json.dumps({"questions": [question]}))
        write(root / f"v2_mscoco_{split}_annotations.json", json.dumps({"annotations": answers}))
        write(root / f"{split}/COCO_{split}_000000000001.jpg", image_bytes())


@settings(max_examples=25, deadline=None)
@given(data=st.data())
@pytest.mark.parametrize("layout", [*LAYOUTS, "coco", "labelled vqa"])
def test_any_value_in_any_place_is_taken_or_refused_in_one_line(layout: str, data: st.DataObject) -> None:
    others = {"coco": ("coco", coco_layout), "labelled vqa": ("vqa", labelled_vqa)}
    name, write_layout = others[layout] if layout in others else LAYOUTS[layout][:2]
    with tempfile.TemporaryDirectory() as folder:
        raw = Path(folder, "raw")
        write_layout(raw, "good")
        file = data.draw(st.sampled_from(sorted(path for path in raw.rglob("*.json*"))))
        value = json.loads(file.read_text())
        place = data.draw(st.sampled_from(places(value)))
        file.write_text(json.dumps(replaced(value, place, data.draw(st.sampled_from(ODD)))))
        said = io.StringIO()
        with redirect_stdout(io.StringIO()), redirect_stderr(said):
            status = main([name, "--root", str(raw), "--output", str(Path(folder, "arrow"))])
    assert status == 0 or re.fullmatch("error: .*\n", said.getvalue()), said.getvalue()
