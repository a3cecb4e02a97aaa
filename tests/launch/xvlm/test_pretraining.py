"""Pre-training by its script: what an official run leaves, and its log (docs/official/xvlm.md §1.6, §8.1)."""

from __future__ import annotations

import math
import re

import pytest
import torch

from tests.launch.xvlm.launcher import EPOCHS, ITERATIONS, NO_DROPOUT, STEPS, WITH_REGIONS, Run, XvlmLauncher

GENERAL = ("loss_itc", "loss_itm", "loss_mlm")
BOXES = ("loss_bbox", "loss_giou")


def test_it_leaves_what_an_official_run_leaves(vanilla: Run) -> None:
    names = {path.name for path in vanilla.directory.iterdir()}
    states = {f"model_state_epoch_{epoch}.th" for epoch in range(EPOCHS)}
    assert {"config.yaml", "log.txt", "training_state_latest.th", *states} <= names
    assert {"metrics.jsonl", "config.json", "checkpoints"} <= names
    for epoch in range(EPOCHS):
        content = vanilla.official(f"model_state_epoch_{epoch}.th")
        assert set(content) == {"model", "config"} and content["config"]["image_res"] == 64
        assert "vision_encoder.layers.0.blocks.0.attn.relative_position_bias_table" in content["model"]
    state = vanilla.official("training_state_latest.th")
    assert set(state) == {"optimizer", "epoch"} and state["epoch"] == EPOCHS - 1
    assert len(state["optimizer"]["param_groups"]) == 4


def test_an_iteration_with_regions_is_two_steps(vanilla: Run) -> None:
    for meter in GENERAL:
        assert len(vanilla.values(f"train/{meter}")) == ITERATIONS * EPOCHS
    for meter in (*GENERAL, *BOXES):
        assert len(vanilla.values(f"train/regions/{meter}")) == WITH_REGIONS * EPOCHS
    last = torch.load(vanilla.checkpoint, weights_only=True)
    assert last["global_step"] == STEPS * EPOCHS


def test_the_official_log(vanilla: Run) -> None:
    """Means since the start of the run, as text with five digits; an iteration without regions counts 0.5 for boxes."""
    assert [line["epoch"] for line in vanilla.log] == [*range(EPOCHS)]
    for line in vanilla.log:
        rates = {"train_lr", "train_lr_large"}
        assert set(line) == {*rates, *(f"train_{meter}" for meter in (*GENERAL, *BOXES)), "epoch"}
        done = line["epoch"] + 1
        for meter in GENERAL:
            values = vanilla.values(f"train/{meter}")[: ITERATIONS * done]
            assert all(map(math.isfinite, values)) and re.fullmatch(r"\d+\.\d{5}", line[f"train_{meter}"])
            assert float(line[f"train_{meter}"]) == pytest.approx(sum(values) / len(values), abs=1e-4)
        for meter in BOXES:
            values = vanilla.values(f"train/regions/{meter}")[: WITH_REGIONS * done]
            total = sum(values) + 0.5 * (ITERATIONS * done - len(values))
            assert float(line[f"train_{meter}"]) == pytest.approx(total / (ITERATIONS * done), abs=1e-4)
    assert float(vanilla.log[-1]["train_lr_large"]) == pytest.approx(2 * float(vanilla.log[-1]["train_lr"]), abs=2e-5)


def test_a_run_can_be_repeated_from_its_config(xvlm: XvlmLauncher, vanilla: Run) -> None:
    """``config.yaml`` alone has the whole run."""
    output = xvlm.log_dir()
    argv = ["Pretrain.py", "--config", str(vanilla.directory / "config.yaml"), "--output_dir", str(output)]
    log = output.with_suffix(".txt")
    assert xvlm.ended(argv, [{}], [str(log)]) == [0], log.read_text()
    again = Run(0, "", output)
    assert again.metrics == vanilla.metrics and again.log == vanilla.log


def test_without_regions(xvlm: XvlmLauncher) -> None:
    run = xvlm.run("Pretrain", "train_file_regions=[]", "schedular.epochs=1", *NO_DROPOUT)
    assert len(run.values("train/loss_itc")) == ITERATIONS
    assert torch.load(run.checkpoint, weights_only=True)["global_step"] == ITERATIONS
    assert (run.log[0]["train_loss_bbox"], run.log[0]["train_loss_giou"]) == ("0.50000", "0.50000")


def test_files_of_single_iterations(xvlm: XvlmLauncher) -> None:
    run = xvlm.run("Pretrain", "ckpt_frequent_step=2", "max_steps=6", *NO_DROPOUT)
    assert {path.name for path in run.directory.glob("*.th")} >= {"model_state_step_1.th", "model_state_step_3.th"}
