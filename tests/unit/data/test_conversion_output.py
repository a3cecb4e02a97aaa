"""The folder that a conversion writes to: one conversion of a data set at a time, and a plain word where it cannot."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.unit.data.raw import coco, write, write_coco
from vlp.data.arrow.__main__ import main
from vlp.data.arrow.convert import convert
from vlp.data.conversion.output import held_output
from vlp.data.errors import DataError


def refused(capsys: pytest.CaptureFixture[str], root: Path, output: Path) -> str:
    """The one line that a conversion of coco ends with."""
    assert main(["coco", "--root", str(root), "--output", str(output)]) == 1
    (line,) = capsys.readouterr().err.splitlines()
    return line


def test_an_output_that_is_no_folder(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_coco(tmp_path / "raw", coco())
    write(tmp_path / "file", "precious")
    for output in (tmp_path / "file", tmp_path / "file/below"):
        line = refused(capsys, tmp_path / "raw", output)
        assert line == f"error: --output {output} is or lies in a file, not a folder; name another"
    assert (tmp_path / "file").read_text() == "precious"


def test_an_output_that_cannot_be_written(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_coco(tmp_path / "raw", coco())
    for output in (Path("/proc/arrow"), tmp_path / ("long" * 100)):
        line = refused(capsys, tmp_path / "raw", output)
        assert line.startswith(f"error: cannot write into --output {output} (") and "name a folder" in line
    if os.geteuid():  # root may write anywhere
        (tmp_path / "closed").mkdir(mode=0o500)
        assert "Permission denied" in refused(capsys, tmp_path / "raw", tmp_path / "closed")


def test_the_second_of_two_conversions_ends_and_says_who_is_there(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The real command, stopped in its middle; its lock goes with it, even with a kill."""
    raw, arrow = tmp_path / "raw", tmp_path / "arrow"
    write_coco(raw, coco() | {f"COCO_val2014_{i:012d}.jpg": ("restval", ["x"]) for i in range(5000)})
    command = [sys.executable, "-m", "vlp.data.arrow", "coco", "--root", str(raw), "--output", str(arrow)]
    first = subprocess.Popen(command, stdout=-3, stderr=-3)
    deadline = time.monotonic() + 30
    while not (arrow / ".coco_caption_karpathy_restval.arrow.tmp").exists() and time.monotonic() < deadline:
        time.sleep(0.002)
    first.send_signal(signal.SIGSTOP)
    before = {path.name: path.stat().st_mtime_ns for path in arrow.iterdir()}
    line = refused(capsys, raw, arrow)
    assert line.startswith(f"error: process {first.pid} on {os.uname().nodename} since 20")
    assert f"-m vlp.data.arrow coco --root {raw} --output {arrow}) is converting coco into {arrow}: wait" in line
    assert {path.name: path.stat().st_mtime_ns for path in arrow.iterdir()} == before
    with held_output(arrow, "f30k"):  # other data sets have other tables
        pass
    first.kill()
    first.wait()
    assert convert("coco", raw, arrow, resume=True, quiet=True).complete
    assert not list(arrow.glob(".*"))


def test_the_lock_is_that_of_the_file_that_is_there(tmp_path: Path) -> None:
    """Not that of one which its last holder has removed."""
    with held_output(tmp_path, "coco"):
        busy = pytest.raises(DataError, match=f"process {os.getpid()} on .* is converting coco")
        with busy, held_output(tmp_path, "coco"):
            pytest.fail("two hold it")
        (tmp_path / ".coco.lock").unlink()
        with held_output(tmp_path, "coco"):
            assert (tmp_path / ".coco.lock").is_file()


def test_a_folder_that_was_made_for_nothing_is_removed(tmp_path: Path) -> None:
    (tmp_path / "there").mkdir()
    for name in ("there", "new"):
        with held_output(tmp_path / name, "coco"):
            pass
    assert [path.name for path in tmp_path.iterdir()] == ["there"]


def test_a_raw_folder_without_one_image_leaves_good_tables_as_they_are(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_coco(tmp_path / "raw", coco())
    convert("coco", tmp_path / "raw", tmp_path / "arrow", quiet=True)
    before = {path: (path.read_bytes(), path.stat().st_mtime_ns) for path in (tmp_path / "arrow").iterdir()}
    for image in tmp_path.glob("raw/*/*.jpg"):
        image.write_bytes(b"")
    line = refused(capsys, tmp_path / "raw", tmp_path / "arrow")
    assert line.startswith(f"error: coco: not one row could be written from {tmp_path / 'raw'}: zero-byte image (")
    assert {path: (path.read_bytes(), path.stat().st_mtime_ns) for path in (tmp_path / "arrow").iterdir()} == before
