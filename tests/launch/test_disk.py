"""A run whose disk fills up, or that is killed while it saves, through the real launcher."""

from __future__ import annotations

import os
import resource
import signal
import threading
import time
from collections.abc import Callable
from pathlib import Path

from tests.launch.launcher import SHARED_CODE, Launcher, Result
from vlp.checkpoint.weights import read_checkpoint

pytestmark = SHARED_CODE
SMALL = 200_000  # bytes; a checkpoint has more, the logs of a run less


def interfered(launcher: Launcher, when: Callable[[Path], bool], act: Callable[[int], None], *items: str) -> Result:
    """A run on whose process ``act`` is called as soon as ``when`` says so of its log_dir."""
    log_dir, done = launcher.log_dir(), list[Result]()
    line = (*launcher.pretraining, *launcher.items(*items))
    run = threading.Thread(target=lambda: done.append(launcher.run(*line, check=False, log_dir=log_dir)))
    run.start()
    while not when(log_dir):
        assert run.is_alive()
        time.sleep(1e-4)
    process = launcher.running()
    assert process is not None
    act(process)
    run.join()
    return done[0]


def steps(run: Result) -> dict[str, int]:
    """The run's checkpoints, each of which must load, with their optimiser steps."""
    paths = sorted((run.directory / "checkpoints").glob("*.ckpt"))
    return {path.name: read_checkpoint(path)["global_step"] for path in paths}


def fill_disk(process: int) -> None:
    """From now on no file of the process can grow beyond SMALL."""
    resource.prlimit(process, resource.RLIMIT_FSIZE, (SMALL, resource.RLIM_INFINITY))


def test_a_disk_that_fills_up_ends_neither_the_run_nor_its_checkpoints(launcher: Launcher) -> None:
    """After the first validation nothing can be saved any more; the run goes on to its end and says so."""

    def saved(log_dir: Path) -> bool:
        return any(log_dir.glob("*/version_0/checkpoints/last.ckpt"))

    run = interfered(launcher, saved, fill_disk, "max_steps=8", "val_check_interval=2")
    assert run.status == 1
    assert run.output.rstrip().splitlines()[-1].startswith(f"error: {run.directory}/checkpoints/")
    assert "last.ckpt was not saved: File too large" in run.output
    assert "Traceback" not in run.output
    assert len(run.values("mlm/train/loss")) == 8
    kept = steps(run)
    assert len(kept) == 2 and kept["last.ckpt"] < 8  # the best and the last
    assert not list(run.directory.glob("checkpoints/.*"))


def kill(process: int) -> None:
    os.kill(process, signal.SIGKILL)


def test_a_run_killed_while_it_saves_leaves_the_checkpoint_before(launcher: Launcher) -> None:
    def saving_again(log_dir: Path) -> bool:
        folders = list(log_dir.glob("*/version_0/checkpoints"))
        return bool(folders) and (folders[0] / "last.ckpt").exists() and (folders[0] / ".last.ckpt.tmp").exists()

    run = interfered(launcher, saving_again, kill, "max_steps=200", "val_check_interval=1")
    assert run.status == -signal.SIGKILL
    assert 1 <= steps(run)["last.ckpt"] < 200


def test_a_log_dir_that_is_a_file_is_told_before_anything_is_loaded(launcher: Launcher) -> None:
    log_dir = launcher.log_dir()
    log_dir.write_text("kept")
    no_weights = launcher.data / "captions.txt"
    run = launcher.pretrain(f"load_path={no_weights}", check=False, log_dir=log_dir)
    assert (run.status, run.output.rstrip().splitlines()[-1]) == (
        1,
        f"error: log_dir={log_dir}: {log_dir} is no folder; give a folder that can be written",
    )
    assert "Traceback" not in run.output and log_dir.read_text() == "kept"
