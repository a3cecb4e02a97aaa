"""Files of JSON lines that are not what they should be: rows are left out by name, or the run ends by name."""

from __future__ import annotations

import base64
import json
import logging
import random
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import pytest

from tests.hostile.groups import LINES, TOKENS
from tests.hostile.harness import FOREIGN, Ended, keeps_its_promise
from tests.hostile.table import Row
from tests.hostile.test_bytes import TIMES, WAYS, in_time
from tests.tokenizers import folder_of_vocabulary
from tests.unit.data.jsonl.files import binary, write_lines
from tests.unit.data.lists import VOCABULARY
from tests.unit.xvlm import small_runs
from tests.unit.xvlm.test_data import streams
from vlp.data.errors import DataError
from vlp.yaml_dialect.run import run
from xvlm.dataset import DATA

ELEMENTS = [{"caption": "a dog", "bb": [5, 5, 20, 15]}, {"caption": "snow", "bb": [0, 0, 40, 30]}]
GOOD: dict[str, dict[str, Any]] = {
    "images": {"binary": binary(), "caption": "a man"},
    "regions": {"binary": binary(1), "elems": ELEMENTS},
}
HUGE = b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR\0\1\0\0\0\1\0\0\x08\x02\0\0\0" + b"\x9a\x0b\x12\x35"  # 65536 x 65536 pixels
ROWS: dict[str, tuple[str, Any]] = {
    "broken": ("images", b'{"binary": "'),
    "two rows in a line": ("images", b'{"a": 1} {"b": 2}'),
    "no UTF-8": ("images", b'{"caption": "\xff"}'),
    "UTF-16": ("images", json.dumps(GOOD["images"]).encode("utf-16")),
    "zeros": ("images", bytes(100)),
    "deep": ("images", b"[" * 200_000),
    "a number of 5000 digits": ("images", b"1" + b"0" * 5000),
    "NaN": ("images", b'{"caption": NaN}'),
    "no caption": ("images", {"binary": binary()}),
    "no words": ("images", {"binary": binary(), "caption": "..."}),
    "a bomb": ("images", {"binary": base64.b64encode(HUGE).decode(), "caption": "a man"}),
    "no elements": ("regions", {"binary": binary()}),
    "elements of text": ("regions", {"binary": binary(), "elems": ["a dog"]}),
    "a box of text": ("regions", {"binary": binary(), "elems": [{"caption": "a", "bb": ["0", "0", "9", "9"]}]}),
    "a box without an end": ("regions", b'{"binary": "%s", "elems": [{"caption": "a", "bb": [0, 0, 1e999, 9]}]}'),
    "a box outside": ("regions", {"binary": binary(), "elems": [{"caption": "a", "bb": [30, 0, 20, 9]}]}),
    "a box of nothing": ("regions", {"binary": binary(), "elems": [{"caption": "a", "bb": [3, 3, 0, 9]}]}),
}


@pytest.fixture(scope="module")
def vocabulary() -> Iterator[str]:
    with folder_of_vocabulary(VOCABULARY) as folder:
        yield str(folder)


def data(folder: Path, vocabulary: str, **files: Any) -> Any:
    config = streams("Pretrain", folder, vocabulary)
    for key, name in (("train_file", "images"), ("train_file_regions", "regions")):
        config[key] = [str(path) for path in files.get(name, config[key])]
    return DATA["Pretrain"](config)


@pytest.mark.parametrize("name", ROWS)
def test_a_bad_row_is_left_out_by_name(
    name: str, tmp_path: Path, vocabulary: str, caplog: pytest.LogCaptureFixture
) -> None:
    stream, bad = ROWS[name]
    bad = bad % binary().encode() if name == "a box without an end" else bad
    path = write_lines(tmp_path / "odd.jsonl", [GOOD[stream], bad, GOOD[stream]])
    module = data(tmp_path, vocabulary, **{stream: [path]})
    guards = module.train_dataloader().dataset.guards
    with in_time():
        batches = [batch for _ in range(3) for batch in module.train_dataloader() if not module.consumed(batch)]
    assert len(batches) == 18
    assert guards[f"{stream}: odd"].failures + guards[f"{stream}: odd (boxes)"].failures > 0
    said = [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]
    assert any(f"{path}: line at byte " in line for line in said)
    assert not any(words in line for line in said for words in FOREIGN)


def test_elements_without_texts_are_left_out_by_name(
    tmp_path: Path, vocabulary: str, caplog: pytest.LogCaptureFixture
) -> None:
    """The image has a caption of its own, so that the row serves all the same."""
    row = {"binary": binary(), "caption": "a man", "elems": [{"caption": "...", "bb": [0, 0, 40, 30]}]}
    path = write_lines(tmp_path / "odd.jsonl", [row] * 3)
    module = data(tmp_path, vocabulary, regions=[path])
    guards = module.train_dataloader().dataset.guards
    for batch in module.train_dataloader():
        module.consumed(batch)
    assert guards["regions: odd"].failures == 0 < guards["regions: odd (boxes)"].failures
    assert f"{path}: line at byte 0: 'elems' 0: " in caplog.text


FILES: dict[str, tuple[Callable[[Path], object], str]] = {
    "empty": (Path.touch, "the files are empty"),
    "a folder without files": (Path.mkdir, "holds no file"),
    "text": (lambda path: path.write_text("no rows\n" * 30), "line at byte 0: is not valid JSON"),
    "a list": (lambda path: path.write_text(json.dumps([GOOD["images"]])), "is list of 1, not an object"),
    "a list over lines": (lambda path: path.write_text(json.dumps([GOOD["images"]], indent=1)), "is not valid JSON"),
    "rows of regions": (lambda path: write_lines(path, [GOOD["regions"]]), "lacks 'caption' (images.caption_key="),
    "blank lines": (lambda path: path.write_text("\n \n"), "holds no row"),
    "one line that never ends": (lambda path: _hole(path), "is longer than 64 MiB"),
}


def _hole(path: Path) -> None:
    with open(path, "wb") as handle:
        handle.truncate(1 << 27)


@pytest.mark.parametrize("name", FILES)
def test_a_file_that_does_not_serve_is_refused_by_name(name: str, tmp_path: Path, vocabulary: str) -> None:
    make, says = FILES[name]
    make(tmp_path / "odd")
    with in_time(), pytest.raises(DataError) as caught:
        data(tmp_path, vocabulary, images=[tmp_path / "odd"])
    said = caught.value.plain
    keeps_its_promise(Row(LINES, "Pretrain", 1, (says, str(tmp_path / "odd"))), Ended(1, said))
    assert "\n" not in said


@pytest.fixture(scope="module")
def small_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("small")
    small_runs.write_data(folder)
    return folder


def run_on(folder: Path, output: Path, rows: list[Any], workers: int = 0, **changes: Any) -> str:
    """How a run on pairs of ``rows`` ends: its message, nothing if it is complete."""
    path = write_lines(output / "odd.jsonl", rows)
    keys: dict[str, Any] = {
        "train_file": [str(path)],
        "output_dir": str(output / "run"),
        "num_workers": workers,
        **changes,
    }
    try:
        run(small_runs.BASELINE, "Pretrain", small_runs.config_of(folder, schedular={"epochs": 1}, **keys))
    except SystemExit as end:
        return str(end.code)
    return ""


def pair(number: int) -> dict[str, Any]:
    return {"image_rpath": f"{number}.png", "caption": "w1 w2"}


def test_a_run_says_how_many_rows_it_left_out(
    small_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = [pair(0), b"{", pair(1), {"image_rpath": "99.png", "caption": "w1"}, pair(2), {"image_rpath": "3.png"}]
    assert run_on(small_run, tmp_path, rows) == ""
    said = capsys.readouterr().out
    assert "skipped " in said and "(images: odd): they could not be read" in said
    assert '"data/skipped/images: odd"' in (tmp_path / "run/metrics.jsonl").read_text()


@pytest.mark.parametrize("workers", [0, 2])
def test_a_run_ends_where_rows_serve_no_more(
    small_run: Path, tmp_path: Path, workers: int, capsys: pytest.CaptureFixture[str]
) -> None:
    found = run_on(small_run, tmp_path, [pair(0), *[{"caption": "w1"}] * 200], workers)
    row = Row(LINES, "Pretrain", 1, (f"{tmp_path}/odd.jsonl: line at byte ", "lacks 'image_rpath'", "20 rows in a row"))
    printed = "".join(capsys.readouterr())
    keeps_its_promise(row, Ended(1, f"{printed}\n{found}"))
    assert found.startswith("error: ") and "\n" not in found


@pytest.mark.parametrize(
    ("caption", "tokenized", "says"),
    [
        ("W1 w2", True, "50% of the tokens are [UNK], and 0% where"),
        ("w1 [UNK] w2", True, ""),
        ("w1 ##2", False, 'begin with "##"'),
        ("\u72ac \u304c", False, "does not fit the texts"),
    ],
    ids=["plain", "pieces", "pieces as text", "another script"],
)
def test_texts_that_are_none_to_the_tokenizer(
    caption: str, tokenized: bool, says: str, small_run: Path, tmp_path: Path
) -> None:
    rows = [{**pair(number), "caption": caption} for number in range(6)]
    found = run_on(small_run, tmp_path, rows, images={"tokenized": tokenized})
    words = (f"error: {tmp_path}/odd.jsonl: of 6 texts ", says, repr(caption), "becomes '") if says else ()
    keeps_its_promise(Row(TOKENS, "Pretrain", int(bool(says)), words), Ended(int(bool(found)), found))


@pytest.mark.parametrize("how", WAYS)
def test_changed_bytes(how: str, tmp_path: Path, vocabulary: str) -> None:
    """A file is read to its end, or refused by name; whatever is wrong in it, the others' rows come."""
    draw = random.Random(how)
    for number in range(TIMES // 4):
        paths = {}
        for stream, row in GOOD.items():
            content = bytearray(b"".join(json.dumps(row).encode() + b"\n" for _ in range(30)))
            WAYS[how](content, draw)
            paths[stream] = [tmp_path / f"{stream}{number}"]
            paths[stream][0].write_bytes(content)
        try:
            with in_time():
                module = data(tmp_path, vocabulary, **paths)
                batches = list(islice(module.train_dataloader(), 6))
            assert len(batches) == 6
        except DataError as error:
            assert str(tmp_path) in error.plain and not any(words in error.plain for words in FOREIGN)


def test_a_file_that_is_cut_during_a_run_ends_in_its_name_or_in_fewer_rows(tmp_path: Path, vocabulary: str) -> None:
    path = write_lines(tmp_path / "odd.jsonl", [GOOD["images"]] * 40)
    module = data(tmp_path, vocabulary, images=[path])
    path.write_bytes(path.read_bytes()[:5000])
    assert len(list(module.train_dataloader())) == 6
    path.unlink()
    with pytest.raises(DataError, match=r"odd\.jsonl: no such file"):
        for _ in range(9):
            list(module.train_dataloader())
