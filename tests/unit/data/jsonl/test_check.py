"""``check`` reads files of rows to the end and names what a run could not use."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

import pytest

from tests.unit.data.raw import image_bytes, write
from vlp.data.json.check import ListReport
from vlp.data.json.images import ImageRoot
from vlp.data.jsonl.__main__ import main
from vlp.data.jsonl.check import RowFields, check_config, check_files

PAIR = {"image_rpath": "a.jpg", "caption": "a cat"}
CAT = {"caption": "cat", "bb": [1, 2, 30, 20]}
REGIONS = {"image_rpath": "a.jpg", "elems": [CAT, {**CAT, "attributes": ["red", "big"]}]}


def report(folder: Path, *rows: Any, image_key: str = "image_rpath", **fields: Any) -> ListReport:
    """Check a file of ``rows`` whose images lie in ``folder/images``: a.jpg, of 40 x 30 pixels, is there."""
    write(folder / "images/a.jpg", image_bytes())
    write(folder / "images/empty.jpg", b"")
    write(
        folder / "rows.jsonl", "".join(row + "\n" if isinstance(row, str) else json.dumps(row) + "\n" for row in rows)
    )
    root = ImageRoot(folder / "images", "image_root") if image_key == "image_rpath" else None
    return check_files(str(folder / "rows.jsonl"), RowFields(image_key, root, **fields))


def test_good_rows(tmp_path: Path) -> None:
    found = report(tmp_path, PAIR, {**PAIR, "caption": ["a cat", "a dog"]}, PAIR)
    assert found.well and (found.kind, found.rows, found.images.looked_at) == ("captions", 3, 1)
    found = report(tmp_path, REGIONS, {**REGIONS, "caption": "whole"}, "", REGIONS)
    assert found.well and (found.kind, found.rows, found.images.looked_at) == ("regions", 3, 1)
    held = {"binary": base64.b64encode(image_bytes()).decode(), "elems": [CAT]}
    found = report(tmp_path, held, held, image_key="binary")
    assert found.well and found.images.looked_at == 2


@pytest.mark.parametrize(
    ("row", "said"),
    [
        ("{", "is not valid JSON"),
        ([1], "not an object"),
        ({"caption": "x"}, "lacks 'image_rpath'"),
        ({"image_rpath": "a.jpg"}, "lacks 'caption'"),
        ({**PAIR, "caption": 3}, "'caption' must be a string or a list of them, not number"),
        ({**PAIR, "caption": []}, "is an empty list"),
        ({**PAIR, "caption": ["a cat", "?!"]}, "holds '?!', of which cleaning leaves nothing"),
        ({**PAIR, "caption": "\0"}, "of which cleaning leaves nothing"),
        ({**PAIR, "image_rpath": "../secret.jpg"}, "lies outside of image_root"),
        ({**REGIONS, "elems": []}, "'elems' must be a list of one element or more"),
        ({**REGIONS, "elems": [3]}, "'elems' must be a list"),
        ({**REGIONS, "caption": "."}, "of which cleaning leaves nothing"),
        ({**REGIONS, "elems": [{"bb": [1, 2, 3, 4]}]}, "'elems' 0 lacks 'caption'"),
        ({**REGIONS, "elems": [CAT, {**CAT, "caption": None}]}, "'elems' 1: 'caption' must be"),
        ({**REGIONS, "elems": [{**CAT, "attributes": 5}]}, "'elems' 0: 'attributes' must be"),
        ({**REGIONS, "elems": [{**CAT, "bb": [1, 2, 3]}]}, "is not four numbers"),
        ({**REGIONS, "elems": [{"caption": "cat"}]}, "is not four numbers"),
        ({**REGIONS, "elems": [CAT, {**CAT, "bb": [1, 2, 0.5, 9]}]}, "'elems' 1: the box [1, 2, 0, 9] has no area"),
        ({**REGIONS, "elems": [{**CAT, "bb": [20, 2, 30, 9]}]}, "leaves the image of 40 x 30 pixels"),
        ({**REGIONS, "elems": [{**CAT, "bb": [-1, 2, 3, 9]}] * 3}, "(and 2 more elements of 3)"),
    ],
)
def test_a_malformed_row_is_named_by_its_place(row: Any, said: str, tmp_path: Path) -> None:
    good = REGIONS if "elems" in row else PAIR
    found = report(tmp_path, good, row, good)
    (problem,) = found.problems
    place = len(json.dumps(good)) + 1
    assert problem.startswith(f"{tmp_path / 'rows.jsonl'}: line at byte {place}: ") and said in problem
    assert (found.rows, found.malformed) == (3, 1) and not found.well


def test_missing_images_are_counted_once(tmp_path: Path) -> None:
    rows = [{**PAIR, "image_rpath": name} for name in ("a.jpg", "b.jpg", "b.jpg", "empty.jpg")]
    found = report(tmp_path, *rows)
    assert (found.images.looked_at, found.images.missing, found.malformed) == (3, 2, 0) and not found.well
    assert "b.jpg: no such file" in found.images.examples[0] and "an empty file" in found.images.examples[1]
    broken = [{"binary": value, "caption": "cat"} for value in ("", "@@", base64.b64encode(b"no image").decode())]
    found = report(tmp_path, *broken, image_key="binary")
    assert found.images.missing == 3 and "is not base64" in found.images.examples[1]


def test_other_names_of_fields_and_pieces(tmp_path: Path) -> None:
    assert report(tmp_path, {"image_rpath": "a.jpg", "desc": "cat"}, caption_key="desc").well
    assert report(tmp_path, {**PAIR, "caption": "."}, tokenized=True).well


def test_a_recipe_says_how_its_files_are_read(tmp_path: Path) -> None:
    held = {"binary": base64.b64encode(image_bytes()).decode(), "desc": "cat"}
    write(tmp_path / "data/a.jsonl", json.dumps(held) + "\n")
    write(tmp_path / "data/_SUCCESS", "")
    write(tmp_path / "images/a.jpg", image_bytes())
    write(tmp_path / "b.jsonl", json.dumps(REGIONS) + "\n" + json.dumps(PAIR) + "\n")
    recipe = {
        "train_file": [str(tmp_path / "data")],
        "images": {"image_key": "binary", "is_image_rpath": False, "caption_key": "desc"},
        "train_file_regions": str(tmp_path / "b.jsonl"),
        "regions": {"image_key": "image_rpath", "is_image_rpath": True},
        "image_root": str(tmp_path / "images"),
    }
    captions, regions = check_config(recipe)
    assert captions.well and captions.rows == 1
    assert (regions.rows, regions.malformed) == (2, 1) and "lacks 'elems'" in regions.problems[0]
    gone = {**recipe, "train_file": [str(tmp_path / "none")]}
    assert "train_file: " in check_config(gone)[0].problems[0]


def test_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    report(tmp_path, PAIR, {**PAIR, "image_rpath": "b.jpg"})
    arguments = ["check", "--files", str(tmp_path / "rows.jsonl"), "--report", str(tmp_path / "report.json")]
    assert main(arguments) == 1 and "as --image-root" in capsys.readouterr().err
    assert main([*arguments, "--image-root", str(tmp_path / "images")]) == 1
    assert "b.jpg: no such file" in capsys.readouterr().out
    (found,) = json.loads((tmp_path / "report.json").read_text())["files"]
    assert found["rows"] == 2 and found["images"]["missing"] == 1
    write(tmp_path / "images/b.jpg", image_bytes())
    assert main([*arguments, "--image-root", str(tmp_path / "images")]) == 0
    assert "all rows are well formed" in capsys.readouterr().out
    write(tmp_path / "recipe.yaml", f"train_file: [{tmp_path / 'none'}]\n")
    assert main(["check", "--config", str(tmp_path / "recipe.yaml")]) == 1
    assert main(["check", "--config", str(tmp_path / "none.yaml")]) == 1
