"""Which foils files and scenes hold, which words of them are wrong, and what is refused."""

from __future__ import annotations

import argparse
import json
import shlex
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reproduce.__main__ import main
from reproduce.foils.command import add_arguments
from reproduce.foils.differences import wrong_words
from reproduce.foils.entries import Foil, of_files, of_scenes
from scenes.coco_layout import TRUTH_FILE, Request, write_coco
from tests.launch.launcher import ROOT
from vlp.data.errors import DataError

ENTRY = {"filename": "a.png", "caption": "A dog.", "negative_caption": "A cat."}


@pytest.fixture
def images(tmp_path: Path) -> Path:
    folder = tmp_path / "images"
    folder.mkdir()
    (folder / "a.png").touch()
    return folder


def written(folder: Path, content: Any, name: str = "replace_obj.json") -> Path:
    path = folder / name
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    return path


def test_lists_and_objects_of_entries_are_read(images: Path) -> None:
    objects = written(images, {"7": ENTRY, "9": {**ENTRY, "caption": "One dog."}})
    rows = written(images, [{"image": "a.png", **ENTRY, "filename": "no.png", "field": "kind"}], "own.json")
    image = images / "a.png"
    assert of_files([objects, rows], images) == [
        Foil(f"--pairs {objects}, entry '7'", image, "A dog.", "A cat.", "replace_obj"),
        Foil(f"--pairs {objects}, entry '9'", image, "One dog.", "A cat.", "replace_obj"),
        Foil(f"--pairs {rows}, row 0", image, "A dog.", "A cat.", "kind"),
    ]
    assert of_files([objects], None) == of_files([objects], images)


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ("{", "replace_obj.json: no JSON text"),
        ('"dog"', "expected a list or an object of entries"),
        ([], "holds no entry"),
        ({"7": [1]}, "entry '7': expected an object with image, caption and negative_caption"),
        ([ENTRY, {"filename": "a.png", "caption": "A dog."}], "row 1: expected an object with image, caption"),
        ([{"caption": "A dog.", "negative_caption": "A cat."}], "row 0: names no image"),
        ({"7": {**ENTRY, "caption": 3}}, "entry '7': caption is 3, expected text"),
        ({"7": {**ENTRY, "negative_caption": " "}}, "entry '7': negative_caption is ' ', expected text"),
        ({"7": {**ENTRY, "field": None}}, "entry '7': field is None, expected text"),
        ({"7": {**ENTRY, "filename": "b.png"}}, "entry '7': the image .*b.png is not there: give .* --images"),
        ({"7": {**ENTRY, "negative_caption": "A dog."}}, "entry '7': caption and negative_caption are the same"),
    ],
)
def test_a_file_that_does_not_serve_names_its_entry(images: Path, content: Any, says: str) -> None:
    with pytest.raises(DataError, match=says):
        of_files([written(images, content)], None)


def test_foils_of_scenes_have_their_fields(tmp_path: Path) -> None:
    root = tmp_path / "raw"
    write_coco(root, Request(train=2, val=2, test=3, captions=2, image_size=32, seed=3))
    records = [json.loads(line) for line in (root / TRUTH_FILE).read_text().splitlines()]
    records = [record for record in records if record["split"] == "test"]
    found = of_scenes(root, "test")
    assert len(found) == sum(len(caption["foils"]) for record in records for caption in record["captions"])
    known = {(c["raw"], f["text"]): f for record in records for c in record["captions"] for f in c["foils"]}
    fields = {
        (caption["raw"], caption["raw"][span["start"] : span["end"]]): span["field"]
        for record in records
        for caption in record["captions"]
        for span in caption["spans"]
    }
    for foil in found:
        truth = known[foil.caption, foil.foil]
        assert foil.image.is_file() and foil.field == fields[foil.caption, truth["original"]]
        assert wrong_words(foil.caption, foil.foil) == [(truth["start"], truth["end"])]
    with pytest.raises(ValueError, match="no foil of the split 'restval'"):
        of_scenes(root, "restval")


@given(st.lists(st.sampled_from(["a", "Dog", "runs", "and"]), min_size=1, max_size=9), st.data())
def test_of_one_replaced_word_it_is_that_word(words: list[str], data: st.DataObject) -> None:
    place = data.draw(st.integers(0, len(words) - 1))
    caption = " ".join(words) + "."
    foil = " ".join([*words[:place], "cat", *words[place + 1 :]]) + "!"
    start = len(" ".join([*words[:place], ""]))
    assert wrong_words(caption, foil) == [(start, start + 3)]


@pytest.mark.parametrize(
    ("caption", "foil", "wrong"),
    [
        ("A man, a dog.", "a man a dog", []),
        ("A man and a dog.", "A dog and a man.", ["dog", "man"]),
        ("A man on a red bus.", "A man on a bus.", []),
        ("A man on a bus.", "A man on a tall red bus.", ["tall", "red"]),
        ("Two men ride a bus.", "Two men wait for a bus.", ["wait", "for"]),
    ],
)
def test_added_and_swapped_words_are_wrong_and_missing_ones_are_none(caption: str, foil: str, wrong: list[str]) -> None:
    assert [foil[start:end] for start, end in wrong_words(caption, foil)] == wrong


@pytest.mark.parametrize(
    ("argv", "says"),
    [
        (["--pairs", "none.json"], "error: --pairs none.json: no such file"),
        (["--scenes", "nowhere"], "error: nowhere/scenes_truth.jsonl is missing: make the scenes first"),
        (["--scenes", "nowhere", "--images", "x"], "error: --images goes with --pairs"),
    ],
)
def test_what_does_not_serve_ends_in_a_line(argv: list[str], says: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["foils", "--baseline", "meter", "--checkpoint", "none.ckpt", *argv]) == 1
    assert capsys.readouterr().err.startswith(says)


def test_the_printed_commands_are_accepted() -> None:
    parser = argparse.ArgumentParser()
    add_arguments(parser)
    lines = [line for line in (ROOT / "docs/foils.md").read_text().splitlines() if line.startswith("python -m")]
    given = [parser.parse_args(shlex.split(line)[4:]) for line in lines]
    assert [bool(each.pairs) for each in given] == [True, False, True]
