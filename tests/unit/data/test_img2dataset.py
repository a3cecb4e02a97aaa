"""img2dataset's output in its three formats: every image once, in order, the same bytes after an interruption."""

from __future__ import annotations

import base64
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.unit.data.img2dataset import FORMATS, Link, links, members_of, write_download, write_table, write_tar
from tests.unit.data.raw import read_table, write
from vlp.data.arrow import convert as arrow_convert
from vlp.data.arrow import plans
from vlp.data.arrow import writer as arrow_writer
from vlp.data.arrow.convert import convert
from vlp.data.conversion import image_files
from vlp.data.conversion.skips import Skips
from vlp.data.errors import DataError
from vlp.data.json.convert import convert as convert_lists
from vlp.data.jsonl import convert as jsonl_convert
from vlp.data.jsonl.__main__ import main
from vlp.data.jsonl.check import check_files, fields_of
from vlp.data.jsonl.convert import Options
from vlp.data.jsonl.convert import convert as convert_lines
from vlp.data.raw.img2dataset import download
from vlp.data.raw.img2dataset.samples import Item, Sample, Unusable
from vlp.data.raw.img2dataset.shards import Shard, ShardRecords
from vlp.data.raw.img2dataset.tars import tar_samples
from vlp.data.raw.source import Source
from vlp.data.raw.web import read_gcc, read_sbu

SHARDS = [links(0, 7, failed=[2]), links(1, 5), links(2, 6, failed=[0, 5])]
GOOD = [link for shard in SHARDS for link in shard if link.status == "success"]
BINARY = Options(binary=True, shards=4)


def rows_of_tables(folder: Path, number: int = 1) -> list[tuple[Any, Any, Any]]:
    rows = [row for i in range(number) for row in read_table(folder / f"sbu_{i}.arrow")]
    return [(row["image_id"], row["caption"], row["image"]) for row in rows]


def lines_of(folder: Path) -> list[tuple[str, bytes]]:
    """Caption and image of every row, in order."""
    rows = [json.loads(line) for path in sorted(folder.iterdir()) for line in path.read_text().splitlines()]
    return [(row["caption"], base64.b64decode(row["binary"], validate=True)) for row in rows]


def files_of(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*.*") if path.is_file()}


def counts(skips: Any) -> dict[str, int]:
    return {reason: entry["count"] for reason, entry in skips.items()}


# The three formats -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("form", FORMATS)
@pytest.mark.parametrize("table", [True, False])
def test_every_format_gives_the_same_tables(tmp_path: Path, form: str, table: bool) -> None:
    write_download(tmp_path / "raw", form, SHARDS, table)
    manifest = convert("sbu", tmp_path / "raw", tmp_path / "arrow", quiet=True)
    rows, expected = rows_of_tables(tmp_path / "arrow"), [(f"{x.key}.jpg", [x.caption], x.image) for x in GOOD]
    assert sorted(rows) == sorted(expected)
    if form != "files":  # in the order in which they lie there
        assert rows == expected
    assert manifest.layout == ("img2dataset" if form == "files" else f"img2dataset {form}")
    if table or form == "parquet":
        assert manifest.found == {"links": 18, "images": 15}
        assert counts(manifest.all_skips()) == {"link that img2dataset could not get: failed_to_download": 3}


@pytest.mark.parametrize("form", ["webdataset", "parquet"])
def test_archives_give_rows_that_hold_their_images(tmp_path: Path, form: str) -> None:
    write_download(tmp_path / "raw", form, SHARDS)
    manifest = convert_lines("sbu", tmp_path / "raw", tmp_path / "data", BINARY, quiet=True)
    assert lines_of(tmp_path / "data/sbu") == [(x.caption, x.image) for x in GOOD]
    assert manifest.total().images == len(GOOD) and len(manifest.files) == 4
    folder = str(tmp_path / "data/sbu")
    assert check_files(folder, fields_of(folder, None, "caption")).well


@pytest.mark.parametrize("form", FORMATS)
def test_cc3m_has_a_folder_for_each_split(tmp_path: Path, form: str) -> None:
    write_download(tmp_path / "train", form, SHARDS)
    write_download(tmp_path / "val", form, [links(0, 2)])
    splits = read_gcc(Source(tmp_path, seed=0))
    assert {split: len(list(records.read(Skips()))) for split, records in splits.items()} == {"train": 15, "val": 2}


def test_statistics_say_what_failed_where_there_is_no_table(tmp_path: Path) -> None:
    write_download(tmp_path, "webdataset", SHARDS, table=False)
    write(tmp_path / "00001_stats.json", json.dumps({"count": 9, "failed_to_resize": 4, "failed_to_download": 0}))
    source = Source(tmp_path, seed=0)
    read_sbu(source)
    assert source.found == {"links": 7 + 9 + 6, "images": 15}
    assert counts(source.skips) == {"link that img2dataset could not get: failed_to_resize": 4}


def test_a_tar_that_is_lost_is_counted_by_its_table(tmp_path: Path) -> None:
    write_download(tmp_path, "webdataset", SHARDS)
    (tmp_path / "00002.tar").unlink()
    source = Source(tmp_path, seed=0)
    assert len(read_sbu(source)["train"]) == 11
    assert source.skips["image whose tar is not there"] == {"count": 4, "examples": ["00002.parquet"]}


def test_tars_that_are_unpacked_beside_themselves_are_read_once(tmp_path: Path) -> None:
    write_download(tmp_path, "webdataset", SHARDS, table=False)
    write_download(tmp_path, "files", SHARDS, table=False)
    assert len(read_sbu(source := Source(tmp_path, seed=0))["train"]) == 15 and source.layout == "img2dataset"
    write_tar(tmp_path / "00003.tar", members_of(links(3, 1)[0]))
    with pytest.raises(DataError, match=r"holds folders such as 00000/ and 00003.tar, which is not unpacked"):
        read_sbu(Source(tmp_path, seed=0))


def test_lists_name_files(tmp_path: Path) -> None:
    write_download(tmp_path / "raw", "webdataset", SHARDS)
    with pytest.raises(DataError, match=r"lists name image files: unpack each tar into a folder of its number"):
        convert_lists("sbu", tmp_path / "raw", tmp_path / "data", quiet=True)
    with pytest.raises(DataError, match="rows must hold them: add --binary"):
        convert_lines("sbu", tmp_path / "raw", tmp_path / "data", quiet=True)


def test_an_image_may_be_kept_out(tmp_path: Path) -> None:
    write_download(tmp_path / "raw", "webdataset", SHARDS)
    write(tmp_path / "held.json", json.dumps([{"image": f"x/{GOOD[3].key}.jpg"}]))
    options = Options(binary=True, exclude=[str(tmp_path / "held.json")])
    manifest = convert_lines("sbu", tmp_path / "raw", tmp_path / "data", options, quiet=True)
    assert [caption for caption, _ in lines_of(tmp_path / "data/sbu")] == [
        x.caption for x in GOOD if x.key != GOOD[3].key
    ]
    assert manifest.all_skips()["image to be kept out (--exclude)"]["count"] == 1


def test_a_part_goes_on_reading_where_the_one_before_it_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Or each of a tar's parts would read its headers from the start."""
    write_download(tmp_path / "raw", "webdataset", SHARDS)
    opened: list[str] = []

    def read(path: Path, skip: int = 0) -> Iterator[Item]:
        opened.append(path.name)
        return tar_samples(path, skip)

    monkeypatch.setattr(download, "tar_samples", read)
    convert_lines("sbu", tmp_path / "raw", tmp_path / "data", Options(binary=True, shards=9), quiet=True)
    assert opened == ["00000.tar", "00001.tar", "00002.tar"]
    assert lines_of(tmp_path / "data/sbu") == [(x.caption, x.image) for x in GOOD]


# Each sample once, whatever the parts ----------------------------------------------------------------------------


ITEMS = st.lists(st.booleans(), max_size=6)


@given(shards=st.lists(st.tuples(ITEMS, st.integers(1, 8)), min_size=1, max_size=5), cuts=st.lists(st.integers(0, 40)))
def test_each_sample_is_in_one_part_whatever_is_expected(shards: list[tuple[list[bool], int]], cuts: list[int]) -> None:
    held: dict[Path, list[Item]] = {}
    for number, (good, _) in enumerate(shards):
        made: list[Item] = []
        for i, well in enumerate(good):
            key = f"{number}-{i}"
            made.append(Sample(key, f"{key}.jpg", b"x", key) if well else Unusable("odd", key))
        held[Path(str(number))] = made
    expected = tuple(Shard(path, shards[i][1]) for i, path in enumerate(held))
    records = ShardRecords.of(expected, "train", lambda path, skip: (item for item in held[path]), {})

    def read(parts: list[ShardRecords]) -> tuple[list[str], dict[str, int]]:
        skips = Skips()
        return [record.image_id for part in parts for record in part.read(skips)], counts(skips)

    items = [item for made in held.values() for item in made]
    bad = sum(isinstance(item, Unusable) for item in items)
    whole = [item.name for item in items if isinstance(item, Sample)], {"odd": bad} if bad else {}
    ends = [0, *sorted(cut for cut in cuts if cut < len(records)), len(records)]
    parts = [records[first:last] for first, last in pairwise(ends)]
    assert read([records]) == whole == read(parts)
    assert read([part[number : number + 1] for part in parts for number in range(len(part))]) == whole


@settings(deadline=None, max_examples=25)
@given(sizes=st.lists(st.integers(0, 5), min_size=1, max_size=4), files=st.integers(1, 9), claimed=st.integers(0, 9))
def test_tars_give_each_image_once_into_any_number_of_files(
    tmp_path_factory: pytest.TempPathFactory, sizes: list[int], files: int, claimed: int
) -> None:
    folder = tmp_path_factory.mktemp("tars")
    shards = [links(number, size) for number, size in enumerate(sizes)]
    if not any(sizes):
        return
    write_download(folder / "raw", "webdataset", shards)
    write_table(folder / "raw/00000.parquet", links(0, claimed), images=False)  # the table need not be true
    convert_lines("sbu", folder / "raw", folder / "data", Options(binary=True, shards=files), quiet=True)
    assert lines_of(folder / "data/sbu") == [(x.caption, x.image) for shard in shards for x in shard]


@pytest.mark.parametrize("threads", [1, 7])
@pytest.mark.parametrize("form", FORMATS)
def test_threads_change_no_byte(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, form: str, threads: int) -> None:
    write_download(tmp_path / "raw", form, SHARDS)

    def made(name: str) -> dict[str, bytes]:
        convert("sbu", tmp_path / "raw", tmp_path / name / "arrow", verify_images=True, quiet=True)
        convert_lines("sbu", tmp_path / "raw", tmp_path / name / "lines", BINARY, quiet=True)
        return files_of(tmp_path / name)

    first = made("a")
    monkeypatch.setattr(arrow_writer, "_THREADS", threads)
    monkeypatch.setattr(image_files, "_THREADS", threads)
    assert made("b") == first and len(first) == 8


# Killed, and gone on ---------------------------------------------------------------------------------------------


def stop_at(monkeypatch: pytest.MonkeyPatch, module: Any, name: str, number: int) -> None:
    """Make the ``number``-th call of a function of ``module`` end as Ctrl-C ends it, half way."""
    whole: Callable[..., Any] = getattr(module, name)
    calls = []

    def stopped(*args: Any, **kwargs: Any) -> Any:
        calls.append(1)
        if len(calls) == number:
            args[-1](1) if name == "write_shard" else args[-1]()
            raise KeyboardInterrupt
        return whole(*args, **kwargs)

    monkeypatch.setattr(module, name, stopped)


@pytest.mark.parametrize("form", FORMATS)
def test_tables_are_gone_on_with(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, form: str) -> None:
    monkeypatch.setattr(plans, "SHARD_IMAGES", 4)
    write_download(tmp_path / "raw", form, SHARDS)
    convert("sbu", tmp_path / "raw", tmp_path / "whole", quiet=True)
    with monkeypatch.context() as patch:
        stop_at(patch, arrow_convert, "write_table", 3)
        with pytest.raises(KeyboardInterrupt):
            convert("sbu", tmp_path / "raw", tmp_path / "arrow", quiet=True)
    kept = (tmp_path / "arrow/sbu_1.arrow").stat().st_mtime_ns
    convert("sbu", tmp_path / "raw", tmp_path / "arrow", resume=True, quiet=True)
    assert files_of(tmp_path / "arrow") == files_of(tmp_path / "whole")
    assert (tmp_path / "arrow/sbu_1.arrow").stat().st_mtime_ns == kept


@pytest.mark.parametrize("form", ["webdataset", "parquet"])
def test_lines_are_gone_on_with(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, form: str) -> None:
    write_download(tmp_path / "raw", form, SHARDS)
    convert_lines("sbu", tmp_path / "raw", tmp_path / "whole", BINARY, quiet=True)
    with monkeypatch.context() as patch:
        stop_at(patch, jsonl_convert, "write_shard", 3)
        with pytest.raises(KeyboardInterrupt):
            convert_lines("sbu", tmp_path / "raw", tmp_path / "data", BINARY, quiet=True)
    resumed = Options(binary=True, shards=4, resume=True)
    if form == "webdataset":
        with (tmp_path / "raw/00001.tar").open("ab") as tar:
            tar.write(bytes(10240))
        with pytest.raises(DataError, match="--resume: the raw data or the options differ"):
            convert_lines("sbu", tmp_path / "raw", tmp_path / "data", resumed, quiet=True)
        os.truncate(tmp_path / "raw/00001.tar", (tmp_path / "raw/00001.tar").stat().st_size - 10240)
    convert_lines("sbu", tmp_path / "raw", tmp_path / "data", resumed, quiet=True)
    assert files_of(tmp_path / "data") == files_of(tmp_path / "whole")


def test_a_process_that_is_killed_goes_on(tmp_path: Path) -> None:
    shards = [[Link(f"{n:05d}{i:04d}", bytes([n, i]) * 20_000, "a caption") for i in range(200)] for n in range(4)]
    write_download(tmp_path / "raw", "webdataset", shards)
    arguments = ["convert", "sbu", "--root", str(tmp_path / "raw"), "--output", str(tmp_path / "data"), "--binary"]
    process = subprocess.Popen(
        [sys.executable, "-m", "vlp.data.jsonl", *arguments], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    deadline = time.monotonic() + 60
    while not (tmp_path / "data/.sbu.partial.json").exists() and process.poll() is None:
        assert time.monotonic() < deadline
        time.sleep(0.002)
    os.kill(process.pid, signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL and not (tmp_path / "data/sbu").exists()
    assert main([*arguments, "--resume"]) == 0
    convert_lines("sbu", tmp_path / "raw", tmp_path / "whole", Options(binary=True), quiet=True)
    assert files_of(tmp_path / "data") == files_of(tmp_path / "whole")
