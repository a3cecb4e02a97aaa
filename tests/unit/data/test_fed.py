"""What a run notes of its data: another digest for every change, the same one wherever the files lie."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.unit.data.lists import write_list
from tests.unit.data.raw import image_bytes, write_table
from vlp.data.arrow.tables import ArrowTables
from vlp.data.arrow.writer import CAPTION
from vlp.data.fed import digests_of_files
from vlp.data.json import kinds
from vlp.data.json.rows import JsonRows
from vlp.training.changed_config import Change
from vlp.training.resume import GoingOn, check_data

Rows = list[dict[str, object]]


def of_list(folder: Path, rows: Rows) -> str:
    return JsonRows([write_list(folder / "a.json", rows)], kinds.CAPTIONS).digest(0)


def of_lines(folder: Path, rows: Rows) -> str:
    path = folder / "a.jsonl"
    path.write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    return digests_of_files([path])[0]


def of_table(folder: Path, rows: Rows) -> str:
    table: Rows = [
        {"image": image_bytes(i), "caption": [row["caption"]], "image_id": row["image"], "split": "train"}
        for i, row in enumerate(rows)
    ]
    write_table(folder / "a.arrow", table, CAPTION)
    return ArrowTables([("a", folder / "a.arrow")], "caption", True).digests()["a.arrow"]


@pytest.mark.parametrize("digest", [of_list, of_lines, of_table])
def test_every_change_has_another_digest_and_a_copy_the_same(
    digest: Callable[[Path, Rows], str], tmp_path: Path
) -> None:
    rows: Rows = [{"image": f"{i}.jpg", "caption": text} for i, text in enumerate(("one dog", "two cats", "a cup"))]
    others = {
        "changed": [{**rows[0], "caption": "one cat"}, *rows[1:]],
        "another id": [{**rows[0], "image": "7.jpg"}, *rows[1:]],
        "exchanged": [{**rows[0], "caption": "two cats"}, {**rows[1], "caption": "one dog"}, rows[2]],
        "reordered": rows[::-1],
        "removed": rows[:-1],
        "added": [*rows, rows[0]],
    }
    found = []
    for name, content in {"first": rows, "copy": rows, **others}.items():
        (tmp_path / name).mkdir()
        found.append(digest(tmp_path / name, content))
    assert found[0] == found[1] and len(set(found)) == 1 + len(others)


def test_of_a_list_its_rows_count_and_not_its_layout(tmp_path: Path) -> None:
    rows: Rows = [{"image": f"{i}.jpg", "caption": "é" * i} for i in range(3)]
    (tmp_path / "b.json").write_text("[ " + " ,\n".join(map(json.dumps, rows)) + "\n]\n")
    lists = JsonRows([write_list(tmp_path / "a.json", rows), tmp_path / "b.json"], kinds.CAPTIONS)
    assert lists.digest(0) == lists.digest(1) and lists.digest(0).startswith("3 rows, ")


def test_of_large_files_the_size_and_blocks_are_read(tmp_path: Path) -> None:
    """Three blocks of 256 KiB of a file, at its start, its middle and its end."""
    block, paths = 1 << 18, [tmp_path / "large", tmp_path / "small"]
    content = os.urandom(8 * block)
    paths[1].write_bytes(b"small")

    def digest(changed: bytes) -> list[str]:
        paths[0].write_bytes(changed)
        return digests_of_files(paths, most=6 * block)

    first = digest(content)
    for place, seen in ((0, True), (2 * block, False), (4 * block, True), (8 * block - 1, True)):
        changed = bytearray(content)
        changed[place] ^= 1
        assert (digest(bytes(changed)) != first) == seen, place
    assert digest(content + b"x") != first and digest(content) == first
    whole = digests_of_files(paths, most=9 * block)
    assert whole[1] == first[1] and whole[0] != first[0]


def test_files_are_named_and_what_is_meant_goes_on(caplog: pytest.LogCaptureFixture) -> None:
    before = {"train/coco": {"a.arrow": "8 rows, 1", "b.arrow": "8 rows, 2"}, "train/vg": {"vg.arrow": "3 rows, 4"}}
    now = {"train/coco": {"a.arrow": "7 rows, 3", "c.arrow": "8 rows, 2"}, "train/sbu": {"s.arrow": "1 rows, 5"}}
    refused, meant = GoingOn("last.ckpt", {}), GoingOn("last.ckpt", {}, other_data=True)
    assert check_data(refused, before, before) == {} == check_data(refused, before, {})
    with pytest.raises(ValueError, match=r"^resume_from=last\.ckpt: its run was fed other data: ") as error:
        check_data(refused, before, now)
    assert "a.arrow (train/coco) was '8 rows, 1', is '7 rows, 3'" in str(error.value)
    assert str(error.value).endswith("resume_anyway=data") and "vg" not in str(error.value)
    assert check_data(meant, before, now) == {
        "a.arrow (train/coco)": Change("8 rows, 1", "7 rows, 3"),
        "b.arrow (train/coco)": Change("8 rows, 2", "not there"),
        "c.arrow (train/coco)": Change("not read", "8 rows, 2"),
    }
    assert "other data from here on: a.arrow" in caplog.text


def test_a_state_of_an_earlier_version_goes_on_with_one_notice(caplog: pytest.LogCaptureFixture) -> None:
    states: list[object] = [None, [], "x"]
    for state in states:
        caplog.clear()
        assert check_data(GoingOn("last.ckpt", {}), state, {"train/a": {"a.json": "3 rows, 1"}}) == {}
        (record,) = caplog.records
        assert "the data of last.ckpt: it is not known whether they changed" in record.getMessage()
