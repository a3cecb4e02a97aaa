"""One owner per folder, tried with real processes."""

from __future__ import annotations

import errno
import fcntl
import json
import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from vlp.owner import Claim, HeldError, check_free, held, is_held, own

HOLDS = "import sys, pathlib, os\nfrom vlp.owner import Claim, own\nown(Claim(pathlib.Path(sys.argv[1])))\n"


@contextmanager
def another(folder: Path, then: str = "") -> Iterator[subprocess.Popen[str]]:
    """A process that owns ``folder`` until its input is closed."""
    code = f"{HOLDS}{then}\nprint('has it', flush=True)\nsys.stdin.read()"
    pipes: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    process = subprocess.Popen([sys.executable, "-c", code, str(folder)], **pipes)
    with process:
        assert process.stdout is not None and process.stdout.readline() == "has it\n"
        yield process
        if process.poll() is None:
            process.communicate("")


def test_the_second_is_told_who_is_there_and_what_to_do(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    claim = Claim(folder, instead="give another output_dir")
    with another(folder) as first:
        for refuse in (own, check_free):
            with pytest.raises(HeldError) as refusal:
                refuse(claim)
            who = rf"process {first.pid} on {socket.gethostname()} since \d{{4}}-\d\d-\d\d \d\d:\d\d:\d\d UTC"
            assert re.match(rf"{who} \(.* -c .*{folder}'?\) is writing into {folder}: ", str(refusal.value), re.S)
            assert str(refusal.value).endswith("wait for it, or give another output_dir")
        assert json.loads((folder / ".run.lock").read_text())["folder"] == str(folder)
        own(claim._replace(name="other"))  # other files of the same folder
    assert not is_held(claim)
    assert not (folder / ".run.lock").exists()  # it has ended by itself


def test_a_kill_frees_it_though_children_of_the_process_live_on(tmp_path: Path) -> None:
    claim = Claim(tmp_path)
    fork = "if os.fork() == 0:\n    import time; print(os.getpid(), flush=True); time.sleep(60)"
    code = f"{HOLDS}{fork}\nsys.stdin.read()"
    pipes: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    with subprocess.Popen([sys.executable, "-c", code, str(tmp_path)], **pipes) as first:
        assert first.stdout is not None
        child = int(first.stdout.readline())
        assert is_held(claim)
        first.kill()
        first.wait()
        try:
            assert (tmp_path / ".run.lock").exists()  # what a dead process has left is no obstacle
            own(claim)
        finally:
            os.kill(child, signal.SIGKILL)


def test_a_command_that_is_given_the_lock_shares_it(tmp_path: Path) -> None:
    with held(Claim(tmp_path)) as lock:
        child = subprocess.Popen(["sleep", "60"], pass_fds=(lock,))
        os.close(os.dup(lock))  # nor does closing another descriptor end it
        os.close(os.open(tmp_path / ".run.lock", os.O_RDONLY))
        assert is_held(Claim(tmp_path))
    left = tmp_path / "left"
    code = f"{HOLDS}from vlp.owner import _held\nimport subprocess\nlock = _held[0].descriptor\n"
    code += "print(subprocess.Popen(['sleep', '60'], pass_fds=(lock,), stdout=-3).pid, flush=True)\nos._exit(0)"
    done = subprocess.run([sys.executable, "-c", code, str(left)], stdout=subprocess.PIPE, text=True, check=True)
    assert is_held(Claim(left))
    for process in (child.pid, int(done.stdout)):
        os.kill(process, signal.SIGKILL)
    child.wait()


def test_the_same_process_may_own_it_again_and_a_new_folder_under_its_name(tmp_path: Path) -> None:
    claim = Claim(tmp_path / "run")
    own(claim)
    own(claim)
    (tmp_path / "run" / ".run.lock").unlink()
    own(claim)
    assert is_held(claim)
    with pytest.raises(FileExistsError):
        own(claim._replace(name="new"), new=True)


@pytest.mark.parametrize("number", [errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOSYS])
def test_a_file_system_without_locks_gets_a_notice(
    number: int, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: Any) -> bytes:
        raise OSError(number, os.strerror(number))

    with another(tmp_path) as first:
        monkeypatch.setattr(fcntl, "fcntl", refuse)
        with held(Claim(tmp_path)):
            (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"notice: {tmp_path} has no file locks ({os.strerror(number)}): see yourself that nothing")
    assert f"the last to begin there was process {first.pid} on " in line


def test_another_error_is_none_of_a_missing_lock(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any) -> bytes:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(fcntl, "fcntl", refuse)
    with pytest.raises(OSError, match="Input/output"):
        own(Claim(tmp_path))


def test_of_many_processes_that_want_a_new_folder_one_gets_it(tmp_path: Path) -> None:
    """Also while others leave it and remove its lock."""
    code = (
        "import sys, pathlib, time\nfrom vlp.owner import Claim, HeldError, held\n"
        "place = pathlib.Path(sys.argv[1])\nend = time.monotonic() + 2\nhad = 0\n"
        "while time.monotonic() < end:\n"
        "    try:\n"
        "        with held(Claim(place)):\n"
        "            (place / 'alone').touch(exist_ok=False)\n"
        "            (place / 'alone').unlink()\n"
        "            had += 1\n"
        "    except HeldError:\n"
        "        pass\n"
        "print(had)"
    )
    command = [sys.executable, "-c", code, str(tmp_path)]
    processes = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(4)]
    had = [process.communicate()[0] for process in processes]
    assert all(process.returncode == 0 for process in processes) and sum(map(int, had)) > 4
