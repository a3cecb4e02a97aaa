"""Pre-training on two streams, broken after every step and gone on with, against the run that nothing breaks."""

from __future__ import annotations

import json
import os
import shutil
import signal
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import lightning as L
import pytest
import torch
from lightning.pytorch.callbacks import Callback

from tests.launch.test_resume import tensors
from tests.unit.training.test_exact_resume import timeless
from tests.unit.xvlm import task_runs
from tests.unit.xvlm.small_runs import STEPS, built, config_of, trained
from tests.unit.xvlm.task_runs import LISTS, STAGES, write_data
from vlp.checkpoint.weights import read_checkpoint
from vlp.training.run import train


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("run")
    write_data(folder)
    return folder


def run(folder: Path, output: Path, cuts: Sequence[int], **changes: Any) -> Path:
    """A run to its end that ``max_steps`` has ended at each of ``cuts`` before."""
    for end in (*cuts, None):
        trained(config_of(folder, max_steps=end, resume_from="auto", output_dir=str(output), **changes))
    return output


def lines(output: Path) -> list[dict[str, Any]]:
    """What was logged, without the means of a part of an epoch, which a cut run logs."""
    found = [json.loads(line) for line in timeless((output / "metrics.jsonl").read_text(encoding="utf-8"))]
    return [line for line in found if (line["step"] + 1) % STEPS == 0 or not any(n.endswith("_epoch") for n in line)]


def same_end(broken: Path, whole: Path) -> None:
    ours, theirs = (torch.load(run / "checkpoints/last.ckpt", weights_only=True) for run in (broken, whole))
    assert ours["global_step"] == theirs["global_step"] == 2 * STEPS
    found, expected = tensors(ours), tensors(theirs)
    assert found.keys() == expected.keys() and len(found) > 200
    assert [name for name, value in expected.items() if not torch.equal(found[name], value)] == []
    for part in ("lr_schedulers", "loops", "PretrainData"):
        assert str(ours[part]) == str(theirs[part]), part
    assert lines(broken) == lines(whole)
    assert (broken / "log.txt").read_text() == (whole / "log.txt").read_text()
    files = sorted(path.name for path in whole.glob("*.th"))
    assert files == sorted(path.name for path in broken.glob("*.th")) and len(files) == 5
    for name in files:
        ours, theirs = tensors(read_checkpoint(broken / name)), tensors(read_checkpoint(whole / name))
        assert all(torch.equal(ours[key], value) for key, value in theirs.items()), name


def test_a_run_that_is_cut_after_every_step(folder: Path, tmp_path: Path) -> None:
    """Also between the regions and the images of an iteration."""
    whole = run(folder, tmp_path / "whole", ())
    same_end(run(folder, tmp_path / "broken", range(1, 2 * STEPS)), whole)


@pytest.fixture(scope="module")
def with_workers(folder: Path) -> Path:
    """The whole run of two lanes of each stream."""
    return run(folder, folder / "workers", (), num_workers=2)


def test_loaders_with_workers_go_on_where_training_stood(folder: Path, with_workers: Path, tmp_path: Path) -> None:
    """What workers have read ahead is read again, whatever their number is from there on."""
    output = tmp_path / "broken"
    for end, workers in ((2, 2), (7, 0), (11, 1), (None, 2)):
        keys: dict[str, Any] = {"max_steps": end, "num_workers": workers, "output_dir": str(output)}
        trained(config_of(folder, resume_from="auto", **keys))
    same_end(output, with_workers)


class At(Callback):
    """Does something when the batch of a step begins."""

    def __init__(self, step: int, deed: Callable[[], None]) -> None:
        self.step, self.deed = step, deed

    def on_train_batch_start(self, trainer: L.Trainer, pl_module: Any, batch: Any, batch_idx: int) -> None:
        if trainer.global_step == self.step:
            self.deed()


class Killed(BaseException):
    """Stands for SIGKILL."""


def kill() -> None:
    raise Killed


def broken_at(step: int, deed: Callable[[], None], config: dict[str, Any], end: type[BaseException]) -> None:
    made = built(config)
    callbacks: list[Any] = made.run.trainer.callbacks  # type: ignore[attr-defined]
    callbacks.append(At(step, deed))
    with pytest.raises(end) as ended:
        train(made.run, config, config["seed"])
    assert end is Killed or ended.value.code == 75  # type: ignore[attr-defined]


@pytest.mark.slow  # its loaders' workers take their time to notice
def test_a_run_that_is_killed_or_asked_to_stop_goes_on(folder: Path, with_workers: Path, tmp_path: Path) -> None:
    """From the step of the last save, and from the step of the signal, be it between regions and images."""

    def config(**changes: Any) -> dict[str, Any]:
        keys: dict[str, Any] = {"num_workers": 2, "resume_from": "auto", "output_dir": str(tmp_path)}
        return config_of(folder, **keys, **changes)

    turns = built(config()).run.datamodule.train_dataloader().turns(0)
    regions = next(i for i, turn in enumerate(turns) if turn.stream == "regions" and i > 3)
    broken_at(regions, lambda: os.kill(os.getpid(), signal.SIGUSR1), config(), SystemExit)
    assert torch.load(tmp_path / "checkpoints/last.ckpt", weights_only=True)["global_step"] == regions + 1
    broken_at(STEPS + 4, kill, config(save_every_n_steps=2), Killed)
    trained(config())
    same_end(tmp_path, with_workers)


def test_other_batches_are_refused(folder: Path, tmp_path: Path) -> None:
    keys: dict[str, Any] = {"resume_from": "auto", "output_dir": str(tmp_path)}
    trained(config_of(folder, max_steps=2, **keys))
    for changes, said in (
        ({"regions": {"batch_size": 5}}, "regions.batch_size was 4, is 5; a run keeps its regions.batch_size"),
        ({"train_dataset_size": 24, "resume_anyway": "train_dataset_size"}, "steps of an epoch was 6, is 8"),
    ):
        with pytest.raises((ValueError, SystemExit), match=f"resume_from=.*{said}"):
            trained(config_of(folder, **keys, **changes))


def test_other_lines_are_refused_unless_they_are_meant(folder: Path, tmp_path: Path) -> None:
    """A caption of as many letters; the files have moved, which is no change."""
    moved = shutil.copytree(folder, tmp_path / "moved", ignore=shutil.ignore_patterns("run*"))
    keys: dict[str, Any] = {"resume_from": "auto", "output_dir": str(tmp_path / "run")}
    trained(config_of(folder, max_steps=1, **keys))
    trained(config_of(moved, max_steps=2, text_encoder=str(folder), **keys))
    content = (moved / "first.json").read_text()
    (moved / "first.json").write_text(content.replace("w0", "w9", 1))
    with pytest.raises((ValueError, SystemExit), match=r"fed other data: first.json \(images/first\) was '\d+ bytes, "):
        trained(config_of(moved, max_steps=3, **keys))
    trained(config_of(moved, max_steps=3, resume_anyway="data", **keys))
    assert torch.load(tmp_path / "run/checkpoints/last.ckpt", weights_only=True)["global_step"] == 3


QUICK = ("Grounding_bbox_pretrain", "Retrieval", "VQA")
OTHERS = [pytest.param(s, marks=() if s in QUICK else pytest.mark.slow) for s in (*STAGES, *LISTS)]


@pytest.mark.parametrize("script", OTHERS)
def test_other_scripts_cut_within_an_epoch_and_at_its_end(script: str, folder: Path, tmp_path: Path) -> None:
    for name, cuts in (("whole", ()), ("broken", (2, 5))):
        for end in (*cuts, None):
            keys: dict[str, Any] = {"max_steps": end, "resume_from": "auto", "output_dir": str(tmp_path / name)}
            task_runs.trained(script, task_runs.config_of(script, folder, **keys))
    ours, theirs = (torch.load(tmp_path / n / "checkpoints/last.ckpt", weights_only=True) for n in ("broken", "whole"))
    found, expected = tensors(ours), tensors(theirs)
    assert ours["global_step"] == 10 and found.keys() == expected.keys() and len(found) > 100
    assert [name for name, value in expected.items() if not torch.equal(found[name], value)] == []
    logs = [(tmp_path / name / "log.txt").read_text() for name in ("broken", "whole")]
    assert logs[0] == logs[1] and logs[0].count("train_lr") > 1
