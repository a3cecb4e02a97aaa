"""A loss or a gradient that is not finite: every process stops, the batch is named, the last good checkpoint stays."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from tests.launch.launcher import SHARED_CODE, Launcher, Result

pytestmark = SHARED_CODE


@pytest.fixture(scope="session")
def poisoned(launcher: Launcher, vanilla: Result) -> Path:
    """A checkpoint whose masked-language head gives scores whose sum is infinite."""
    state = torch.load(vanilla.checkpoint, weights_only=True)["state_dict"]
    state["mlm_score.bias"][0] = 3e38
    path = launcher.data / "poisoned.ckpt"
    torch.save({"state_dict": state}, path)
    return path


def report(run: Result, rank: int = 0) -> dict[str, Any]:
    return json.loads((run.directory / f"nonfinite_rank{rank}.json").read_text())


def test_a_checkpoint_whose_loss_overflows(launcher: Launcher, poisoned: Path) -> None:
    run = launcher.pretrain(f"load_path={poisoned}", "save_every_n_steps=1", check=False)
    assert run.status == 1 and "Traceback" not in run.output
    assert "a loss that is not finite in step 1, rank 0: " in run.output and "precision=bf16" in run.output
    (batch,) = report(run)["batches"]
    assert batch["losses"]["mlm_loss"] in ("nan", "inf") and isinstance(batch["losses"]["itm_loss"], float)
    samples = batch["samples"]
    assert len(samples["text"]) == len(samples["raw_index"]) == 8 and samples["dataset"] == ["coco"] * 8
    for row, index, text in zip(samples["img_index"], samples["raw_index"], samples["text"], strict=True):
        assert f"dataset coco, img_index {row}, raw_index {index}, text {text}" in run.output
    assert not list(run.directory.rglob("*.ckpt"))


# EPIC's parts -------------------------------------------------------------------------------------------------


@pytest.fixture(scope="session")
def broken_teacher(launcher: Launcher, vanilla: Result) -> Path:
    """A teacher whose penultimate fusion layer, that of Eq. 8, gives scores that overflow."""
    content = torch.load(vanilla.checkpoint, weights_only=True)
    for part in ("query", "key"):
        content["state_dict"][f"cross_modal_image_layers.1.crossattention.self.{part}.bias"][0] = 1e20
    path = launcher.data / "broken_teacher.ckpt"
    torch.save(content, path)
    return path


@pytest.fixture(scope="session")
def broken_generator(launcher: Launcher) -> Path:
    """A masked language model that gives one word a score whose sum over two places overflows."""
    path = launcher.data / "broken_generator"
    shutil.copytree(launcher.language_model, path)
    weights = load_file(path / "model.safetensors")
    weights["lm_head.bias"][20] = 3e38
    save_file(weights, path / "model.safetensors", {"format": "pt"})
    (path / "SHA256SUMS").unlink()
    return path


def stopped_by(run: Result, loss: str, rank: int = 0) -> dict[str, Any]:
    """The report of a run that ended as for any loss that is not finite, and because of ``loss`` alone."""
    assert run.status == 1 and "Traceback" not in run.output, run.output
    content = report(run, rank)
    assert f"a loss that is not finite in step {content['step']}, rank {rank}: " in run.output
    (batch,) = content["batches"]
    assert [name for name, value in batch["losses"].items() if isinstance(value, str)] == [loss]
    assert all(text in run.output for text in batch["samples"]["text"])
    return content


def test_a_teacher_whose_scores_overflow(launcher: Launcher, broken_teacher: Path) -> None:
    run = launcher.pretrain("epic", f"teacher_path={broken_teacher}", "save_every_n_steps=1", check=False)
    stopped_by(run, "epic_teacher_guard_loss")
    assert not list(run.directory.rglob("*.ckpt"))


@pytest.mark.parametrize(("training", "loss"), [("finetune", "epic_gen_loss"), ("fixed", "epic_generator_guard_loss")])
def test_a_generator_whose_scores_overflow(
    launcher: Launcher, broken_generator: Path, training: str, loss: str
) -> None:
    items = (f"epic.generator={broken_generator}", f"epic.generator_training={training}")
    stopped_by(launcher.pretrain(*launcher.teacher, *items, check=False), loss)


def test_a_head_that_diverges_leaves_the_last_good_checkpoint(launcher: Launcher) -> None:
    items = ("epic.itc_head_lr_mult=1e30", "epic.itc_weight=1e12", "weight_decay=0", "save_every_n_steps=1")
    run = launcher.pretrain(*launcher.teacher, *items, check=False)
    assert stopped_by(run, "epic_itc_loss")["step"] == 3
    checkpoint = torch.load(run.checkpoint, weights_only=True)
    assert checkpoint["global_step"] == 2
    assert all(bool(value.isfinite().all()) for value in checkpoint["state_dict"].values())


@pytest.mark.slow
def test_both_of_two_processes_stop_for_a_part_of_epic(launcher: Launcher, broken_teacher: Path) -> None:
    shape = ("num_gpus=2", "per_gpu_batchsize=4")
    run = launcher.pretrain(*shape, "epic", f"teacher_path={broken_teacher}", check=False)
    for rank in (0, 1):
        assert stopped_by(run, "epic_teacher_guard_loss", rank)["rank"] == rank


# Weights and processes ----------------------------------------------------------------------------------------


def test_a_learning_rate_that_diverges_leaves_the_last_good_checkpoint(launcher: Launcher) -> None:
    items = ("learning_rate=1e10", "warmup_steps=2", "max_steps=8", "save_every_n_steps=1", "drop_rate=0")
    run = launcher.pretrain(*items, "per_gpu_batchsize=4", "batch_size=8", check=False)
    assert run.status == 1 and "not finite in step" in run.output
    content = report(run)
    assert len(content["batches"]) == 2
    checkpoint = torch.load(run.checkpoint, weights_only=True)
    assert checkpoint["global_step"] == content["step"] - 1 > 0
    assert all(bool(value.isfinite().all()) for value in checkpoint["state_dict"].values())


def test_weights_that_overflow_are_not_saved(launcher: Launcher) -> None:
    items = ("learning_rate=1e36", "warmup_steps=2", "max_steps=8", "save_every_n_steps=1", "drop_rate=0")
    run = launcher.pretrain(*items, check=False)
    assert run.status == 1 and "error: the weights are not finite after step 2: not saved" in run.output
    assert torch.load(run.checkpoint, weights_only=True)["global_step"] == 1


def test_both_of_two_processes_stop(launcher: Launcher, poisoned: Path) -> None:
    run = launcher.pretrain("num_gpus=2", "per_gpu_batchsize=4", f"load_path={poisoned}", check=False)
    assert run.status == 1 and "Traceback" not in run.output, run.output
    for rank in (0, 1):
        assert f"a loss that is not finite in step 1, rank {rank}: " in run.output
        assert report(run, rank)["rank"] == rank
    assert report(run, 0)["batches"][0]["samples"] != report(run, 1)["batches"][0]["samples"]
