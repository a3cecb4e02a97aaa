"""The benchmark of conversions: what it makes is a download, and its figures are those of the processes that it ran."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from benchmarks import conversion
from benchmarks.conversion import COPY, WAYS, Spent, copied, main, run, summary, write_parquets, write_tars
from benchmarks.cost import MEASURED
from vlp.data.conversion.skips import Skips
from vlp.data.raw.source import Source
from vlp.data.raw.web import read_cc12m


def test_downloads_are_read_as_they_were_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(conversion, "SHARD", 4)
    pool = [b"one image", b"another"]
    write_tars(tmp_path / "webdataset", 10, pool)
    write_parquets(tmp_path / "parquet", 10, pool)
    for form in ("webdataset", "parquet"):
        source, skips = Source(tmp_path / form, seed=0), Skips()
        records = list(read_cc12m(source)["train"].read(skips))
        assert source.found == {"links": 10, "images": 10} and len(source.shards) == 3 and not skips
        assert [record.captions for record in records] == [[f"a photo of thing number {i}"] for i in range(10)]
        assert [record.data for record in records] == pool * 5
        assert len({record.image_id for record in records}) == 10


def test_memory_and_time_are_those_of_the_process(tmp_path: Path) -> None:
    small = run(["-c", "pass"])
    large = run(["-c", "x = bytearray(200 << 20); import time; time.sleep(0.3)"])
    assert 190 << 20 < large.peak - small.peak < 230 << 20
    assert large.seconds > 0.3 and small.cpu_seconds > 0
    with pytest.raises(SystemExit, match="error: python -c raise SystemExit"):
        run(["-c", "raise SystemExit(3)"])


def test_a_copy_leaves_nothing_behind(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "a/x").write_bytes(bytes(1000))
    assert copied(tmp_path / "a", tmp_path / "b").seconds > 0 and not (tmp_path / "b").exists()


def test_figures_by_hand() -> None:
    spent = {COPY: {"10": Spent(2.0, 0.5, 0)}, "way": {"10": Spent(5.0, 4.0, 300_000_000)}}
    assert summary(spent)["ways"] == {
        COPY: {"10": {"images_per_second": 5.0, "images_per_cpu_second": 20.0, "times_a_plain_copy": 1.0}},
        "way": {
            "10": {
                **{"images_per_second": 2.0, "images_per_cpu_second": 2.5, "times_a_plain_copy": 2.5},
                "peak_mb": 300.0,
            }
        },
    }


@pytest.mark.slow
def test_the_command_writes_its_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    main(["--images", "30", "20", "--size", "32", "--folder", str(tmp_path), "--json", str(tmp_path / "result.json")])
    result = json.loads((tmp_path / "result.json").read_text())
    assert set(result["ways"]) == {COPY, *WAYS} and result["settings"]["images"] == [20, 30]
    assert all(set(by_images) == {"20", "30"} for by_images in result["ways"].values())
    assert "webdataset → JSON lines" in capsys.readouterr().out
    assert [path.name for path in tmp_path.iterdir()] == ["result.json"]


def test_a_committed_result_says_that_memory_does_not_grow() -> None:
    ways = json.loads((MEASURED / "conversion.json").read_text())["ways"]
    for way in WAYS:
        few, many = ways[way]["10000"]["peak_mb"], ways[way]["100000"]["peak_mb"]
        assert many < 1.25 * few, way
