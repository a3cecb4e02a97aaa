"""What a run prints and leaves behind, through a real Trainer."""

from __future__ import annotations

import json
import re
import time
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import lightning as L
import pytest
import torch
from lightning.pytorch.callbacks import Callback, ModelCheckpoint
from lightning.pytorch.loggers import TensorBoardLogger
from torch import Tensor, nn
from torch.utils.data import DataLoader

from tests.unit.checkpoint.test_atomic_io import no_file_above
from vlp import progress
from vlp.progress import CountProgress, Pace, clock, waiting
from vlp.training.progress import PlainProgress, progress_callback
from vlp.training.run_log import JsonLinesLogger, LastCheckpoint, check_log_dir, write_run_header


class Constant(L.LightningModule):
    """Its loss is 2.5 for ever; its metric gets worse."""

    def __init__(self) -> None:
        super().__init__()
        self.p = nn.Parameter(torch.zeros(1))

    def training_step(self, batch: Tensor, batch_idx: int) -> Tensor:
        self.log("mlm/train/loss", 2.5)
        return 2.5 + 0 * self.p.sum()

    def validation_step(self, batch: Tensor, batch_idx: int) -> None:
        self.log("val/the_metric", -float(self.global_step))

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.1)


def train(
    folder: Path,
    steps: int = 4,
    accumulate: int = 1,
    validate: bool = False,
    resume: Path | None = None,
    **options: Any,
) -> None:
    defaults = {"enable_checkpointing": False, "logger": False}
    trainer = L.Trainer(
        accelerator="cpu",
        max_steps=steps,
        accumulate_grad_batches=accumulate,
        log_every_n_steps=2,
        enable_progress_bar=False,
        enable_model_summary=False,
        default_root_dir=folder,
        **{**defaults, **options},
    )
    data: Any = torch.zeros(3, 1)
    loaders = DataLoader(data), DataLoader(data) if validate else None
    trainer.fit(Constant(), *loaders, ckpt_path=resume, weights_only=True)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0:00"),
        (75, "1:15"),
        (59.6, "1:00"),
        (3599.4, "59:59"),
        (3599.6, "1:00:00"),
        (3700, "1:01:40"),
        (-3, "0:00"),
    ],
)
def test_clock(seconds: float, text: str) -> None:
    assert clock(seconds) == text


@pytest.mark.parametrize("accumulate", [1, 2])
def test_progress_lines(accumulate: int, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    train(tmp_path, 4, accumulate, callbacks=[PlainProgress(every=0)])
    lines = [line for line in capsys.readouterr().out.splitlines() if line.startswith("step")]
    pattern = re.compile(r"step (\d)/4 · loss 2\.500 · [\d.e+]+ steps/s · (\d+:\d\d) left")
    found = [pattern.fullmatch(line) for line in lines]
    assert all(found), lines
    steps = [match[1] for match in found if match]
    assert list(dict.fromkeys(steps)) == ["1", "2", "3", "4"]
    assert found[-1] is not None and found[-1][2] == "0:00"


def test_progress_is_sparse_but_shows_the_end(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    train(tmp_path, callbacks=[PlainProgress(every=3600)])
    lines = [line for line in capsys.readouterr().out.splitlines() if line.startswith("step")]
    assert len(lines) == 1 and lines[0].startswith("step 4/4")


class Slow(Callback):
    """Every step takes ``seconds``, by a clock that nothing else moves."""

    def __init__(self, seconds: float, monkeypatch: pytest.MonkeyPatch) -> None:
        self.seconds, self.now = seconds, 100.0
        monkeypatch.setattr(progress, "time", SimpleNamespace(monotonic=lambda: self.now))

    def on_train_batch_start(self, *_: Any) -> None:
        self.now += self.seconds


def test_speed_and_time_left_are_those_of_this_process_also_after_a_resume(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    slow = Slow(4, monkeypatch)
    for steps, checkpoint in ((30, None), (60, tmp_path / "run" / "version_0" / "checkpoints" / "last.ckpt")):
        logger = TensorBoardLogger(tmp_path, "run")
        callbacks = [slow, PlainProgress(every=20), LastCheckpoint()]
        train(tmp_path, steps, logger=logger, enable_checkpointing=True, callbacks=callbacks, resume=checkpoint)
    lines = [line.split(" · ") for line in capsys.readouterr().out.splitlines() if line.startswith("step")]
    assert {line[2] for line in lines} == {"0.25 steps/s"}
    assert [(line[0], line[3]) for line in lines[:3]] == [
        ("step 5/30", "1:40 left"),
        ("step 10/30", "1:20 left"),
        ("step 15/30", "1:00 left"),
    ]
    assert (lines[6][0], lines[6][3], lines[-1][0]) == ("step 35/60", "1:40 left", "step 60/60")


def test_counted_progress(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Every four seconds, then more and more rarely, and at the end, of what is shown."""
    slow = Slow(3, monkeypatch)
    for show in (True, False):
        counted = CountProgress("retrieval", "images", 10, show)
        for _ in range(5):
            slow.on_train_batch_start()
            counted.advance(2)
    assert capsys.readouterr().out.splitlines() == [
        "retrieval: 4/10 images · 0.667 images/s · 0:09 left",
        "retrieval: 8/10 images · 0.667 images/s · 0:03 left",
        "retrieval: 10/10 images · 0.667 images/s · 0:00 left",
    ]


def test_the_pace_slows_down(monkeypatch: pytest.MonkeyPatch) -> None:
    slow, due = Slow(1, monkeypatch), []
    pace = Pace()
    for second in range(1, 401):
        slow.on_train_batch_start()
        if pace.due():
            due.append(second)
    gaps = [after - before for before, after in pairwise([0, *due])]
    assert gaps[:10] == [4] * 10 and gaps == sorted(gaps) and gaps[-1] == 30


@pytest.mark.parametrize("variable", ["RANK", "SLURM_PROCID", "LOCAL_RANK", "NODE_RANK", "OMPI_COMM_WORLD_RANK"])
def test_one_process_alone_says_what_it_waits_for(
    variable: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Pace, "due", lambda _: True)
    monkeypatch.setenv(variable, "1")
    with waiting("reading"):
        time.sleep(0.7)
    assert capsys.readouterr().out == ""


def test_who_waits_is_told_for_what(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Pace, "due", lambda _: True)
    printed = ""
    with waiting("building the model"):
        while not printed:
            time.sleep(0.1)
            printed = capsys.readouterr().out
    assert re.match(r"building the model … 0:0\d\n", printed)


def test_a_validation_counts_its_batches(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Pace, "due", lambda _: True)
    train(tmp_path, validate=True, callbacks=[PlainProgress()])
    lines = [line.split(" · ")[0] for line in capsys.readouterr().out.splitlines() if line.startswith("validation")]
    assert "validation: 3/3 batches" in lines


def test_a_pipe_gets_plain_lines() -> None:
    assert isinstance(progress_callback(), PlainProgress)


def test_metrics_are_one_json_line_a_step(tmp_path: Path) -> None:
    train(tmp_path, logger=[JsonLinesLogger(tmp_path / "run")])
    lines = (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()
    records = [json.loads(line) for line in lines]
    assert [(record["step"], record["mlm/train/loss"]) for record in records] == [(1, 2.5), (3, 2.5)]


def test_nan_and_tensors_are_written(tmp_path: Path) -> None:
    logger = JsonLinesLogger(tmp_path / "new" / "run")
    logger.log_metrics({"a": float("nan"), "b": torch.tensor(1.5)}, step=7)  # type: ignore[dict-item]
    (line,) = (tmp_path / "new" / "run" / "metrics.jsonl").read_text().splitlines()
    record = json.loads(line)
    assert record["a"] != record["a"] and (record["b"], record["step"]) == (1.5, 7)


@pytest.mark.parametrize("validate", [True, False])
@pytest.mark.parametrize("steps", [3, 4, 6])
def test_the_last_checkpoint_is_the_last(steps: int, validate: bool, tmp_path: Path) -> None:
    """At the end of an epoch and within one, with a metric that never improves and without any."""
    best = ModelCheckpoint(monitor="val/the_metric" if validate else None, mode="max")
    train(
        tmp_path,
        steps,
        validate=validate,
        logger=TensorBoardLogger(tmp_path, "run"),
        enable_checkpointing=True,
        callbacks=[best, LastCheckpoint()],
    )
    checkpoint = torch.load(tmp_path / "run" / "version_0" / "checkpoints" / "last.ckpt", weights_only=True)
    assert checkpoint["global_step"] == steps
    assert validate is False or "step=3" in best.best_model_path


def test_a_trial_run_leaves_nothing_behind(tmp_path: Path) -> None:
    logger = TensorBoardLogger(tmp_path, "run")
    train(tmp_path, logger=logger, fast_dev_run=True, enable_checkpointing=True, callbacks=[LastCheckpoint()])
    assert not list(tmp_path.iterdir())


def test_the_header_holds_config_and_versions(tmp_path: Path) -> None:
    write_run_header(tmp_path, {"seed": 3, "datasets": ["coco"], "epic": {"mask_ratio": 0.35}})
    content = json.loads((tmp_path / "config.json").read_text())
    assert content["config"] == {"seed": 3, "datasets": ["coco"], "epic": {"mask_ratio": 0.35}}
    assert content["versions"]["torch"] == torch.__version__
    assert {"python", "lightning", "transformers", "timm"} <= content["versions"].keys()


# Where a run's folder is to be ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("log_dir", "message"),
    [
        ("file", "{0}/file is no folder; give a folder that can be written"),
        ("file/below", "{0}/file is no folder; give a folder that can be written"),
        ("taken", "{0}/taken/run is no folder; give a folder that can be written"),
        ("dangling", "{0}/dangling is no folder; give a folder that can be written"),
        ("/proc", "/proc cannot be written ("),  # not even by root
        ("/proc/new/folder", "/proc cannot be written ("),
        ("long" * 64, "the name longlonglonglonglong… is too long for a folder"),
    ],
)
def test_a_log_dir_that_cannot_be_is_named(log_dir: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("kept")
    (tmp_path / "taken").mkdir()
    (tmp_path / "taken" / "run").touch()
    (tmp_path / "dangling").symlink_to(tmp_path / "nowhere")
    before = sorted(tmp_path.rglob("*"))
    wanted = tmp_path / log_dir
    with pytest.raises(OSError) as refusal:
        check_log_dir(wanted, "run")
    assert str(refusal.value).startswith(f"log_dir={wanted}: {message.format(tmp_path)}")
    assert sorted(tmp_path.rglob("*")) == before and (tmp_path / "file").read_text() == "kept"


def test_a_full_disk_is_told_before_a_run(tmp_path: Path) -> None:
    with (
        no_file_above(1000),
        pytest.raises(OSError, match=rf"^log_dir={tmp_path}: .* \(File too large\); give another"),
    ):
        check_log_dir(tmp_path, "run")


def test_a_log_dir_that_serves_is_left_as_it_is(tmp_path: Path) -> None:
    for log_dir in (tmp_path, tmp_path / "new" / "folder", "relative"):
        check_log_dir(log_dir, "run")
    assert not list(tmp_path.iterdir()) and not Path("relative").exists()
