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

from tests.hostile.groups import LINES
from tests.hostile.harness import FOREIGN, Ended, keeps_its_promise
from tests.hostile.table import Row
from tests.hostile.test_bytes import TIMES, WAYS, in_time
from tests.tokenizers import folder_of_vocabulary
from tests.unit.data.jsonl.files import binary, write_lines
from tests.unit.data.lists import VOCABULARY
from tests.unit.xvlm.test_data import streams
from vlp.data.errors import DataError
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
    with pytest.raises(DataError, match=r"odd\.jsonl: No such file"):
        for _ in range(9):
            list(module.train_dataloader())
