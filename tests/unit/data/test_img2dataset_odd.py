"""Damaged and odd output of img2dataset: what can be used is, the rest is named and counted, nothing raises."""

from __future__ import annotations

import io
import json
import tarfile
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.unit.data.img2dataset import Link, links, members_of, write_download, write_table, write_tar
from tests.unit.data.raw import image_bytes, read_table, write
from vlp.data.arrow.__main__ import main
from vlp.data.arrow.convert import convert
from vlp.data.conversion.skips import Skips
from vlp.data.errors import DataError
from vlp.data.raw.img2dataset import tars
from vlp.data.raw.img2dataset.parquets import parquet_samples
from vlp.data.raw.img2dataset.samples import Item, Sample, Unusable
from vlp.data.raw.img2dataset.shards import Keys, repeated_keys
from vlp.data.raw.img2dataset.tars import tar_samples
from vlp.data.raw.source import Source
from vlp.data.raw.web import read_sbu

DAMAGED = "tar that is cut off or damaged: the rest of it is lost"


def keys(items: Iterator[Item]) -> list[str]:
    return [item.key for item in items if isinstance(item, Sample)]


def reasons(items: Iterator[Item]) -> list[str]:
    return [item.reason for item in items if isinstance(item, Unusable)]


def read(folder: Path) -> tuple[list[str], dict[str, int]]:
    """The image ids of a download, and what was left out."""
    source, skips = Source(folder, seed=0), Skips()
    found = [record.image_id for record in read_sbu(source)["train"].read(skips)]
    return found, {reason: entry["count"] for reason, entry in (source.skips | skips).items()}


# Tars ------------------------------------------------------------------------------------------------------------


@settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(cut=st.integers(0, 60_000))
def test_a_tar_that_is_cut_off_gives_what_lies_before(tmp_path: Path, cut: int) -> None:
    made = links(0, 4)
    write_tar(tmp_path / "whole.tar", [member for link in made for member in members_of(link)])
    content = (tmp_path / "whole.tar").read_bytes()
    with tarfile.open(tmp_path / "whole.tar") as archive:
        ends = [info.offset_data + -(-info.size // 512) * 512 for info in archive]
    cut = min(cut, len(content))
    write(tmp_path / "00000.tar", content[:cut])
    whole = [made[i].key for i in range(4) if ends[3 * i + 2] <= cut]
    for skip in (0, 2, 100):
        found = list(tar_samples(tmp_path / "00000.tar", skip))
        assert keys(iter(found))[: len(whole)] == whole and len(keys(iter(found))) <= len(whole) + 1
        if cut < ends[-1] + 512:
            assert DAMAGED in reasons(iter(found))
            assert str(tmp_path / "00000.tar") in next(item.example for item in found if isinstance(item, Unusable))


@settings(deadline=None, max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(flips=st.lists(st.tuples(st.integers(0, 13_000), st.binary(min_size=1, max_size=12)), min_size=1, max_size=4))
def test_a_damaged_tar_raises_nothing(tmp_path: Path, flips: list[tuple[int, bytes]]) -> None:
    write_tar(tmp_path / "00000.tar", [member for link in links(0, 3) for member in members_of(link)])
    content = bytearray((tmp_path / "00000.tar").read_bytes())
    for place, data in flips:
        content[place : place + len(data)] = data
    write(tmp_path / "00000.tar", bytes(content))
    for skip in (0, 2, 100):
        found = list(tar_samples(tmp_path / "00000.tar", skip))
        assert len(keys(iter(found))) <= 3


@settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(content=st.binary(max_size=3000))
def test_what_is_no_tar_raises_nothing(tmp_path: Path, content: bytes) -> None:
    write(tmp_path / "00000.tar", content)
    assert not keys(tar_samples(tmp_path / "00000.tar"))


@pytest.mark.parametrize("field", ["size", "pax"])
def test_a_header_that_lies_fills_no_memory(tmp_path: Path, field: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tars, "_LARGEST", 4096)
    if field == "size":
        members = [("000.jpg", image_bytes()), ("000.txt", b"x" * 5000), *members_of(links(0, 1)[0])]
        write_tar(tmp_path / "00000.tar", members)
        assert reasons(tar_samples(tmp_path / "00000.tar")) == [
            "image without annotation",
            "member of a tar that is larger than 0 MB",
        ]
        return
    with tarfile.open(tmp_path / "00000.tar", "w", format=tarfile.PAX_FORMAT) as archive:
        archive.addfile(tarfile.TarInfo("a.txt"))
        info = tarfile.TarInfo("b.txt")
        info.pax_headers = {"comment": "x" * 6000}
        archive.addfile(info)
    assert DAMAGED in reasons(tar_samples(tmp_path / "00000.tar"))


def test_members_that_are_no_images(tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "00000.tar", "w") as archive:
        for name, kind in (("d", tarfile.DIRTYPE), ("s.jpg", tarfile.SYMTYPE), ("f.jpg", tarfile.FIFOTYPE)):
            info = tarfile.TarInfo(name)
            info.type, info.linkname = kind, "/etc/passwd"
            archive.addfile(info)
        for name, content in (("x.npy", b"1"), ("bad\udcff.jpg", b"1"), *members_of(links(0, 1)[0])):
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    assert keys(tar_samples(tmp_path / "00000.tar")) == ["000000000"]
    assert reasons(tar_samples(tmp_path / "00000.tar")) == [
        "member of a tar that is no regular file",
        "member of a tar that is no regular file",
        "member of a tar that is neither image nor caption",
        "file whose name is no UTF-8: rename it",
    ]


def test_samples_that_are_not_whole(tmp_path: Path) -> None:
    good, other = links(0, 2)
    members = [
        *members_of(good),
        ("a.jpg", b"x"),
        ("b.json", b"{}"),
        *(("c.jpg", b"x"), ("c.json", b"{")),
        *(("d.jpg", b"x"), ("d.json", b'{"caption": null}')),
        *(("e.jpg", b"x"), ("e.txt", b"\xff")),
        *(("f.jpg", b"x"), ("f.json", json.dumps({"caption": "x", "status": "failed_to_resize"}).encode())),
        *(("g.jpg", b"x"), ("g.json", b"[" * 100_000)),
        *(("h.jpg", b""), ("h.txt", b"no byte")),
        *(("i.jpg", b"1"), ("i.txt", b"one"), ("i.jpg", b"2"), ("i.txt", b"two")),
        *members_of(good),
        *(("folder/" + name.upper(), content) for name, content in members_of(other)),
    ]
    write_tar(tmp_path / "raw/00000.tar", members)
    manifest = convert("sbu", tmp_path / "raw", tmp_path / "arrow", quiet=True)
    assert [row["image_id"] for row in read_table(tmp_path / "arrow/sbu_0.arrow")] == [
        "000000000.jpg",
        "i.jpg",
        "000000001.jpg",
    ]
    skipped = manifest.tables["sbu_0"].skipped
    assert {reason: entry["count"] for reason, entry in skipped.items()} == {
        "image without annotation": 1,
        "annotation without image": 1,
        "caption cannot be read": 3,
        "empty caption": 1,
        "link that img2dataset could not get: failed_to_resize": 1,
        "zero-byte image": 1,
        "second image of the same key": 2,
    }
    assert skipped["zero-byte image"]["examples"] == [str(tmp_path / "raw/00000.tar/h.jpg")]


def test_an_image_that_does_not_decode_is_left_out_on_request(tmp_path: Path) -> None:
    made = [*links(0, 2), Link("000000009", b"no image", "caption")]
    write_download(tmp_path / "raw", "webdataset", [made])
    for verify in (False, True):
        manifest = convert("sbu", tmp_path / "raw", tmp_path / str(verify), verify_images=verify, quiet=True)
        assert manifest.tables["sbu_0"].rows == 3 - verify
    assert list(manifest.all_skips()) == ["image does not decode"]


@pytest.mark.parametrize("table", [True, False])
@pytest.mark.parametrize("form", ["webdataset", "parquet"])
def test_a_key_in_two_shards_is_the_first(tmp_path: Path, form: str, table: bool) -> None:
    again = Link("000010001", b"another", "another caption")
    write_download(tmp_path, form, [links(0, 2), [*links(1, 2), again], [*links(2, 2), again]], table)
    found, skipped = read(tmp_path)
    assert found == [f"{key}.jpg" for key in ("000000000", "000000001", "000010000", "000010001", *_of(2))]
    assert skipped == {"second image of the same key": 2}


def _of(shard: int) -> list[str]:
    return [link.key for link in links(shard, 2)]


@given(st.lists(st.lists(st.integers(0, 30).map(str), max_size=6, unique=True), max_size=6))
def test_repeated_keys_are_found_whatever_they_are(shards: list[list[str]]) -> None:
    asked = [
        Keys(min(keys, default=""), max(keys, default=""), lambda keys=keys: iter(keys))  # type: ignore[misc]
        for keys in shards
    ]
    expected = {}
    for key in {key for shard in shards for key in shard}:
        where = [number for number, shard in enumerate(shards) if key in shard]
        if len(where) > 1:
            expected[key] = where[0]
    assert repeated_keys(asked) == expected


def test_a_broken_table_beside_a_tar_is_named(tmp_path: Path) -> None:
    write_download(tmp_path, "webdataset", [links(0, 2)])
    write(tmp_path / "00000.parquet", b"PAR1")
    with pytest.raises(DataError, match=r"00000.parquet cannot be read .*delete it; it is not needed"):
        read_sbu(Source(tmp_path, seed=0))


@settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(cut=st.integers(1, 7_000), skip=st.integers(0, 9))
def test_what_is_not_read_moves_nothing(tmp_path: Path, cut: int, skip: int) -> None:
    """A reader that passes over samples goes on where one stands that reads them all, in a damaged tar, too."""
    again = [("0.npy", b"x"), *members_of(links(0, 1)[0]), ("z.jpg", b"no caption")]
    write_tar(tmp_path / "00000.tar", [*(member for link in links(0, 4) for member in members_of(link)), *again])
    with (tmp_path / "00000.tar").open("r+b") as tar:
        tar.truncate(max(0, (tmp_path / "00000.tar").stat().st_size - 4096 - cut))
    write_table(tmp_path / "00000.parquet", [*links(0, 7, failed=[1, 6]), links(0, 1)[0]], images=True)
    for read_shard, name in ((tar_samples, "00000.tar"), (parquet_samples, "00000.parquet")):
        whole = list(read_shard(tmp_path / name))
        assert list(read_shard(tmp_path / name, skip))[skip:] == whole[skip:]


# Parquet ---------------------------------------------------------------------------------------------------------


def test_a_shard_in_parquet_that_is_cut_off(tmp_path: Path) -> None:
    write_download(tmp_path, "parquet", [links(0, 8), links(1, 2)])
    content = (tmp_path / "00000.parquet").read_bytes()
    write(tmp_path / "00000.parquet", content[:-20])
    found, skipped = read(tmp_path)
    assert found == ["000010000.jpg", "000010001.jpg"]
    assert skipped == {"Parquet file that is cut off or damaged: the rest of it is lost": 1}


@settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(flips=st.lists(st.tuples(st.integers(4, 6_000), st.binary(min_size=1, max_size=6)), min_size=1, max_size=3))
def test_damaged_parquet_raises_nothing_but_what_names_it(tmp_path: Path, flips: list[tuple[int, bytes]]) -> None:
    write_table(tmp_path / "00000.parquet", links(0, 6), images=True)
    write_table(tmp_path / "00001.parquet", links(1, 1), images=True)
    content = bytearray((tmp_path / "00000.parquet").read_bytes())
    for place, data in flips:
        if place + len(data) < len(content):
            content[place : place + len(data)] = data
    write(tmp_path / "00000.parquet", bytes(content))
    try:
        found, _ = read(tmp_path)
    except DataError as error:
        assert "00000.parquet" in str(error)
    else:
        assert "000010000.jpg" in found


@pytest.mark.parametrize("lacks", ["key", "caption"])
def test_parquet_without_a_column_is_named(tmp_path: Path, lacks: str, capsys: pytest.CaptureFixture[str]) -> None:
    write_download(tmp_path / "raw", "parquet", [links(0, 2)])
    path = tmp_path / "raw/00000.parquet"
    pq.write_table(pq.read_table(path).drop_columns([lacks]), path)
    assert main(["sbu", "--root", str(tmp_path / "raw"), "--output", str(tmp_path / "arrow")]) == 1
    said = capsys.readouterr().err
    assert said.startswith(f"error: {path} has no column {lacks}") and said.count("\n") == 1


def test_parquet_without_images_is_no_download(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_table(tmp_path / "raw/00000.parquet", links(0, 2), images=False)
    assert main(["sbu", "--root", str(tmp_path / "raw"), "--output", str(tmp_path / "arrow")]) == 1
    assert "neither annot.json nor img2dataset output" in capsys.readouterr().err


def test_columns_of_another_type_are_named(tmp_path: Path) -> None:
    columns = {"key": [1], "caption": ["a"], "jpg": ["text"]}
    pq.write_table(pa.table(columns), tmp_path / "00000.parquet")
    records = read_sbu(Source(tmp_path, seed=0))["train"]
    with pytest.raises(DataError, match=r"00000.parquet: column jpg holds string, no images"):
        list(records.read(Skips()))


def test_rows_of_parquet_that_are_not_whole(tmp_path: Path) -> None:
    columns = {
        "key": [1, 2, 2, 3],
        "txt": ["a", None, "again", "no image"],
        "png": pa.array([image_bytes(), b"x", b"x", None], pa.large_binary()),
    }
    (tmp_path / "raw").mkdir()
    pq.write_table(pa.table(columns), tmp_path / "raw/00000.parquet")
    manifest = convert("sbu", tmp_path / "raw", tmp_path / "arrow", quiet=True)
    assert [row["image_id"] for row in read_table(tmp_path / "arrow/sbu_0.arrow")] == ["1.png"]
    assert {reason: entry["count"] for reason, entry in manifest.all_skips().items()} == {
        "empty caption": 1,
        "second image of the same key": 1,
        "zero-byte image": 1,
    }
