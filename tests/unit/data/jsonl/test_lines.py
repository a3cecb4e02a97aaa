"""Lines in chunks of bytes: all of them, once each, whatever the sizes; endless lanes that share them out."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.unit.data.jsonl.files import lines_of_pass, write_lines
from vlp.data.errors import DataError
from vlp.data.jsonl.lanes import Lane
from vlp.data.jsonl.lines import LONGEST, JsonLines

# What a file may hold: lines with and without anything in them, the last one with or without its end.
FILES = st.lists(
    st.tuples(st.lists(st.binary(max_size=12).map(lambda line: line.replace(b"\n", b"")), max_size=8), st.booleans()),
    min_size=1,
    max_size=4,
)


def contents(files: list[tuple[list[bytes], bool]]) -> list[bytes]:
    return [b"\n".join(lines) + b"\n" * (ended and bool(lines)) for lines, ended in files]


def expected(content: bytes) -> Iterator[tuple[int, bytes]]:
    """Offset and text of every line that holds something, found by reading the file from its start."""
    offset = 0
    for line in content.split(b"\n"):
        if line.strip():
            yield offset, line
        offset += len(line) + 1


@settings(deadline=None)
@given(FILES, st.integers(1, 40), st.integers(1, 7), st.integers(0, 3), st.integers(0, 99))
def test_a_pass_of_all_lanes_holds_every_line_once(
    files: list[tuple[list[bytes], bool]], chunk: int, lanes: int, turn: int, seed: int
) -> None:
    wanted = sorted(
        (number, offset) for number, content in enumerate(contents(files)) for offset, _ in expected(content)
    )
    with tempfile.TemporaryDirectory() as folder:
        for number, content in enumerate(contents(files)):
            Path(folder, f"{number}.jsonl").write_bytes(content)
        if not wanted:
            return
        lines = JsonLines([Path(folder, f"{number}.jsonl") for number in range(len(files))], chunk=chunk)
        shares = lines_of_pass(lines, turn, seed, lanes)
    assert sorted(place for share in shares for place in share) == wanted


@settings(deadline=None)
@given(FILES, st.integers(1, 40))
def test_a_line_is_what_stands_in_the_file(files: list[tuple[list[bytes], bool]], chunk: int) -> None:
    with tempfile.TemporaryDirectory() as folder:
        Path(folder, "a").write_bytes(b"".join(contents(files)) + b"end")
        lines = JsonLines([Path(folder, "a")], chunk=chunk)
        read = [(line.offset, line.data) for number in range(lines.chunks) for line in lines.read(number)]
    found = [(offset, data and data.rstrip(b"\n")) for offset, data in read]
    assert found == list(expected(b"".join(contents(files)) + b"end"))


@settings(deadline=None)
@given(st.integers(1, 60), st.integers(1, 5), st.integers(0, 80), st.integers(0, 80))
def test_a_lane_goes_on_where_another_one_stood(rows: int, lanes: int, before: int, after: int) -> None:
    with tempfile.TemporaryDirectory() as folder:
        lines = JsonLines([write_lines(Path(folder, "a"), range(rows))], chunk=9)
        for number in range(lanes):
            whole = list(islice(Lane(lines, 1, number, lanes), before + after))
            lane = Lane(lines, 1, number, lanes)
            assert list(islice(lane, before)) == whole[:before]
            again = Lane(lines, 1, number, lanes, lane.position)
            assert list(islice(again, after)) == whole[before:]


def test_passes_and_seeds_have_orders_of_their_own(tmp_path: Path) -> None:
    lines = JsonLines([write_lines(tmp_path / "a", range(200))])
    orders = [lines_of_pass(lines, turn, seed)[0] for turn in range(3) for seed in range(3)]
    assert len({tuple(order) for order in orders}) == len(orders)
    assert all(sorted(order) == sorted(orders[0]) for order in orders)


def test_one_line_reaches_each_of_eight_lanes(tmp_path: Path) -> None:
    lines = JsonLines([write_lines(tmp_path / "a", [1])])
    assert [next(iter(Lane(lines, 0, number, 8)))[1].offset for number in range(8)] == [0] * 8


def test_folders_are_taken_whole_but_for_the_marks_of_success(tmp_path: Path) -> None:
    for name in ("b", "a", "_SUCCESS", "part_SUCCESS.crc", ".a.crc"):
        write_lines(tmp_path / "coco" / name, [1])
    (tmp_path / "coco" / "deeper").mkdir()
    write_lines(tmp_path / "other" / "coco.jsonl", [1])
    lines = JsonLines([tmp_path / "coco", tmp_path / "other" / "coco.jsonl", tmp_path / "coco" / "_SUCCESS"])
    assert lines.names == ["coco/a", "coco/b", "coco#2"]
    assert lines.groups == ["coco", "coco", "coco#2"]


@pytest.mark.parametrize(
    ("given", "says"),
    [
        (["hdfs://data/coco"], "train_file: hdfs://data/coco is not on a local disk: mount it, or copy it here"),
        (["nowhere"], "nowhere not found"),
        ([], "names no file"),
        (["empty"], "the files are empty"),
        (["folder"], "holds no file"),
        (["_SUCCESS"], "names no file"),
    ],
)
def test_what_cannot_be_read_is_named(
    given: list[str], says: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("empty").touch()
    Path("folder").mkdir()
    Path("_SUCCESS").write_text("1")
    with pytest.raises(DataError, match=says):
        JsonLines(given)


def test_blank_lines_alone_are_no_rows(tmp_path: Path) -> None:
    lines = JsonLines([write_lines(tmp_path / "a", ["", " ", ""])])
    with pytest.raises(DataError, match="hold no row"):
        next(iter(Lane(lines, 0, 1, 3)))


def test_a_line_that_would_fill_the_memory_is_not_read(tmp_path: Path) -> None:
    """It stands between two others; its bytes are a hole in the file."""
    with open(tmp_path / "a", "wb") as handle:
        handle.write(b"1\n")
        handle.seek(LONGEST + 100)
        handle.write(b"x\n2\n")
    lines = JsonLines([tmp_path / "a"])
    read = [line for number in range(lines.chunks) for line in lines.read(number)]
    assert [(line.offset, line.data) for line in read] == [
        (0, b"1\n"),
        (2, None),
        (LONGEST + 102, b"2\n"),
    ]


def test_chunks_of_large_files_are_not_many(tmp_path: Path) -> None:
    with open(tmp_path / "a", "wb") as handle:
        handle.truncate(1 << 38)  # 256 GiB, a hole
    assert JsonLines([tmp_path / "a"]).chunks == 1 << 16
    assert JsonLines([write_lines(tmp_path / "b", ["x" * 99] * 100)]).chunks == 20
