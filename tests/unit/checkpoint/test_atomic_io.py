"""Checkpoints on the disk: whole or not at all, whenever a run is killed and however full the disk is."""

from __future__ import annotations

import itertools
import json
import multiprocessing
import os
import random
import re
import resource
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import lightning as L
import pytest
import torch
from lightning.pytorch.callbacks import ModelCheckpoint
from torch import Tensor, nn
from torch.utils.data import DataLoader

from vlp.checkpoint.atomic_io import AtomicCheckpointIO, last_save_failure
from vlp.checkpoint.weights import WeightsError, read_checkpoint
from vlp.files import write_json
from vlp.training.event_log import EventLog
from vlp.training.run_log import JsonLinesLogger, LastCheckpoint
from vlp.versions import package_versions

# TensorBoard's writer thread ends with the error of the disk.
pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
LARGE = 8_000_000  # float32 values: a save takes long enough to be hit


@contextmanager
def no_file_above(size: int) -> Iterator[None]:
    """A disk that takes no file of more than ``size`` bytes."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def content(step: int, size: int = 10) -> dict[str, Any]:
    return {"state_dict": {"w": torch.full((size,), float(step))}, "global_step": step}


def names(folder: Path) -> list[str]:
    return sorted(os.listdir(folder))


def test_what_is_saved_is_loaded_without_unpickling_and_names_its_versions(tmp_path: Path) -> None:
    disk = AtomicCheckpointIO()
    disk.save_checkpoint(content(3), tmp_path / "new folder" / "a.ckpt")
    loaded = torch.load(tmp_path / "new folder" / "a.ckpt", weights_only=True)
    assert loaded["versions"] == package_versions() and loaded["versions"]["torch"] == torch.__version__
    assert torch.equal(loaded["state_dict"]["w"], torch.full((10,), 3.0)) and loaded["global_step"] == 3
    assert disk.load_checkpoint(tmp_path / "new folder" / "a.ckpt")["global_step"] == 3


@pytest.mark.parametrize("weights_only", [True, False, None])
def test_nothing_is_unpickled_whatever_the_trainer_asks(weights_only: bool | None, tmp_path: Path) -> None:
    torch.save({"state_dict": {}, "x": Path("/")}, tmp_path / "a.ckpt")
    with pytest.raises(WeightsError, match=r"holds pickled Python objects \(pathlib\.PosixPath\)"):
        AtomicCheckpointIO().load_checkpoint(tmp_path / "a.ckpt", weights_only=weights_only)


# Killed ---------------------------------------------------------------------------------------------------


def save_for_ever(path: Path, start: int) -> None:
    disk = AtomicCheckpointIO()
    for step in range(start, start + 1000):
        disk.save_checkpoint(content(step, LARGE), path)


def killed_at(path: Path, start: int, moment: Any) -> None:
    """Kill -9 a process that saves again and again, when ``moment`` returns."""
    saver = multiprocessing.get_context("fork").Process(target=save_for_ever, args=(path, start), daemon=True)
    saver.start()
    moment()
    saver.kill()
    saver.join()


def assert_whole(path: Path) -> int:
    loaded = read_checkpoint(path)
    assert torch.equal(loaded["state_dict"]["w"], torch.full((LARGE,), float(loaded["global_step"])))
    return loaded["global_step"]


def test_a_kill_in_the_middle_of_a_save_leaves_the_checkpoint_before(tmp_path: Path) -> None:
    path, partial = tmp_path / "last.ckpt", tmp_path / ".last.ckpt.tmp"
    AtomicCheckpointIO().save_checkpoint(content(1, LARGE), path)

    def half_written() -> None:
        while not (partial.exists() and 0 < partial.stat().st_size < 4 * LARGE):
            time.sleep(1e-4)

    for attempt in itertools.count(1):
        before = assert_whole(path)
        killed_at(path, before + 1, half_written)
        assert_whole(path)
        if partial.exists():  # the kill did not come too late
            break
        assert attempt < 20
    with pytest.raises(WeightsError, match="truncated"):
        read_checkpoint(partial)


def test_kills_at_random_moments(tmp_path: Path) -> None:
    path, draw = tmp_path / "last.ckpt", random.Random(0)
    AtomicCheckpointIO().save_checkpoint(content(1, LARGE), path)
    step = 1
    for _ in range(6):
        killed_at(path, step + 1, lambda: time.sleep(draw.uniform(0.0, 0.3)))
        now = assert_whole(path)
        assert now >= step
        step = now


def test_the_next_save_clears_what_a_killed_one_left(tmp_path: Path) -> None:
    for name in (".epoch=3-step=70.ckpt.tmp", ".last.ckpt.tmp", ".notes.tmp"):
        (tmp_path / name).write_bytes(b"half")
    AtomicCheckpointIO().save_checkpoint(content(1), tmp_path / "last.ckpt")
    assert names(tmp_path) == [".notes.tmp", "last.ckpt"]


# A power cut ----------------------------------------------------------------------------------------------


def save(path: Path) -> None:
    AtomicCheckpointIO().save_checkpoint(content(1, 10**5), path)


def save_json(path: Path) -> None:
    write_json(path, {"seed": 3})


@pytest.mark.parametrize("write", [save, save_json])
def test_a_file_is_on_the_disk_before_its_name_and_the_name_before_the_run_goes_on(
    write: Callable[[Path], None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is not synced may be lost, or come back as an empty file, after a kernel or a machine that stops."""
    done: list[tuple[str, str, int]] = []
    sync, replace = os.fsync, os.replace

    def noted_sync(descriptor: int) -> None:
        path = Path(os.readlink(f"/proc/self/fd/{descriptor}"))
        done.append(("sync", path.name, path.stat().st_size if path.is_file() else 0))
        sync(descriptor)

    def noted_replace(source: Path, target: Path) -> None:
        done.append(("rename", target.name, source.stat().st_size))
        replace(source, target)

    monkeypatch.setattr(os, "fsync", noted_sync)
    monkeypatch.setattr(os, "replace", noted_replace)
    path = tmp_path / "checkpoints" / "last.ckpt"
    write(path)
    size = path.stat().st_size
    assert done == [("sync", ".last.ckpt.tmp", size), ("rename", "last.ckpt", size), ("sync", "checkpoints", 0)]


# A full disk ----------------------------------------------------------------------------------------------


def test_a_full_disk_is_reported_and_the_checkpoint_before_stays(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    disk, path = AtomicCheckpointIO(), tmp_path / "last.ckpt"
    disk.save_checkpoint(content(1, 10**5), path)
    with no_file_above(10**5):
        disk.save_checkpoint(content(2, 10**5), path)
    (message,) = caplog.messages
    assert message.startswith(f"{path} was not saved: File too large")
    assert disk.failure == f"{path} was not saved: File too large"
    assert names(tmp_path) == ["last.ckpt"] and read_checkpoint(path)["global_step"] == 1
    disk.save_checkpoint(content(3, 10**5), path)
    assert disk.failure is None and read_checkpoint(path)["global_step"] == 3


def test_a_folder_that_cannot_be_written(tmp_path: Path) -> None:
    disk = AtomicCheckpointIO()
    (tmp_path / "file").touch()
    disk.save_checkpoint(content(1), tmp_path / "file" / "last.ckpt")
    assert disk.failure is not None and "last.ckpt was not saved: " in disk.failure


def test_what_is_no_error_of_the_disk_is_raised(tmp_path: Path) -> None:
    with pytest.raises(Exception, match="pickle"):
        AtomicCheckpointIO().save_checkpoint({"x": lambda: 0}, tmp_path / "last.ckpt")
    assert names(tmp_path) == []


class Improving(L.LightningModule):
    """Its metric gets better with every step; the disk is full for as long as its step is one of ``full``."""

    def __init__(self, full: range) -> None:
        super().__init__()
        self.full = full
        self.layer = nn.Linear(100, 100)
        self.seen: dict[int, list[str]] = {}

    def training_step(self, batch: Tensor, batch_idx: int) -> Tensor:
        self.log("mlm/train/loss", 2.5)
        return self.layer(batch).sum()

    def on_train_batch_start(self, batch: Tensor, batch_idx: int) -> None:
        self.seen[self.global_step] = names(Path(self.trainer.default_root_dir) / "checkpoints")
        limit = 10**4 if self.global_step in self.full else resource.RLIM_INFINITY
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, resource.RLIM_INFINITY))

    def validation_step(self, batch: Tensor, batch_idx: int) -> None:
        self.log("val/the_metric", float(self.global_step))

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.1)


def train(folder: Path, full: range, steps: int = 6) -> tuple[L.Trainer, Improving]:
    """Validate, and save the best and the last checkpoint, after every step."""
    (folder / "checkpoints").mkdir()
    data: Any = torch.zeros(1, 100)
    model = Improving(full)
    best = ModelCheckpoint(folder / "checkpoints", monitor="val/the_metric", mode="max", save_top_k=1)
    trainer = L.Trainer(
        accelerator="cpu",
        max_steps=steps,
        plugins=[AtomicCheckpointIO()],
        callbacks=[best, LastCheckpoint()],
        logger=[EventLog(folder, name="", version=""), JsonLinesLogger(folder)],
        log_every_n_steps=1,
        enable_progress_bar=False,
        enable_model_summary=False,
        default_root_dir=folder,
    )
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    try:
        trainer.fit(model, DataLoader(data), DataLoader(data))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    return trainer, model


def test_the_best_checkpoint_outlives_saves_that_fail_and_goes_with_the_next_that_succeeds(tmp_path: Path) -> None:
    trainer, model = train(tmp_path, full=range(2, 4))
    # At the start of step k, what steps 1 to k left; the saves of steps 3 and 4 failed.
    assert model.seen[2] == ["epoch=1-step=2.ckpt", "last.ckpt"]
    assert model.seen[3] == model.seen[4] == ["epoch=1-step=2.ckpt", "last.ckpt"]
    assert model.seen[5] == ["epoch=4-step=5.ckpt", "last.ckpt"]
    assert last_save_failure(trainer) is None
    assert read_checkpoint(tmp_path / "checkpoints" / "last.ckpt")["global_step"] == 6


def test_a_run_whose_last_save_failed_says_so_and_keeps_what_it_had(tmp_path: Path) -> None:
    trainer, _ = train(tmp_path, full=range(2, 100))
    assert trainer.global_step == 6
    failure = last_save_failure(trainer)
    assert failure is not None and re.fullmatch(r".*/checkpoints/.*\.ckpt was not saved: File too large", failure)
    assert names(tmp_path / "checkpoints") == ["epoch=1-step=2.ckpt", "last.ckpt"]
    assert all(read_checkpoint(path)["global_step"] == 2 for path in (tmp_path / "checkpoints").iterdir())


# The logs -------------------------------------------------------------------------------------------------


def lines(folder: Path) -> list[int]:
    return [json.loads(line)["step"] for line in (folder / "metrics.jsonl").read_text().splitlines()]


def test_metrics_that_a_full_disk_refuses_are_written_later(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    logger = JsonLinesLogger(tmp_path)
    logger.log_metrics({"x": 1.0}, 0)
    with no_file_above((tmp_path / "metrics.jsonl").stat().st_size + 5):
        for step in (1, 2):
            logger.log_metrics({"x": 1.0}, step)
            assert lines(tmp_path) == [0]  # and no half line
    assert [message.split(": ", 1)[1] for message in caplog.messages] == ["File too large. The run goes on"]
    logger.log_metrics({"x": 1.0}, 3)
    assert lines(tmp_path) == [0, 1, 2, 3]


def test_events_that_a_full_disk_refuses_end_the_events_alone(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    logger = EventLog(tmp_path, name="", version="")
    with no_file_above(100):
        for step in range(20):
            logger.log_metrics({"a metric with a long name": 1.0}, step)
            logger.save()
        logger.finalize("success")
    assert caplog.messages == [f"{logger.log_dir} takes no more TensorBoard events: File too large. The run goes on"]


def test_what_is_no_error_of_the_disk_is_not_hidden(tmp_path: Path) -> None:
    wrong: Any = {"x": "text"}
    with pytest.raises(ValueError, match="not supported"):
        EventLog(tmp_path, name="", version="").log_metrics(wrong, 0)
