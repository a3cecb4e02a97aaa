"""What is read is a file: a pipe without a writer, a socket or a device would be waited for without an end."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest

from reproduce import state
from vlp.data.errors import DataError
from vlp.evaluation.captions import read_references
from vlp.files import regular


def test_files_and_links_to_them_alone_are_regular(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("whole")
    (tmp_path / "link").symlink_to(tmp_path / "file")
    assert regular(tmp_path / "file") == tmp_path / "file"
    assert regular(str(tmp_path / "link")).read_text() == "whole"
    os.mkfifo(tmp_path / "pipe")
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(tmp_path / "socket"))
        others = {tmp_path: "a folder", tmp_path / "pipe": "a pipe", tmp_path / "socket": "a socket"}
        for path, what in {**others, Path("/dev/zero"): "a device"}.items():
            with pytest.raises(OSError, match=f"is {what}, not a file: '{path}'"):
                regular(path)
    with pytest.raises(FileNotFoundError):
        regular(tmp_path / "nothing")


def test_no_reader_waits_for_a_pipe(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(DataError, match="is a pipe, not a file"):
        read_references(tmp_path / "pipe")


def test_nor_does_a_stage_of_the_paper(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / state.FILE)
    with pytest.raises(OSError, match=r"is a pipe, not a file: '.*/stage\.json'"):
        state.read(tmp_path)
