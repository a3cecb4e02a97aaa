"""What the engine promises, in real runs of ALBEF: wrong numbers, broken images, other ways to compute."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import lightning as L
import pytest
import torch
from lightning.pytorch.callbacks import Callback

from tests.unit.albef.task_runs import ROWS, built, config_of, trained, words, write_data
from vlp.training.run import train

MOMENTUM = {"enabled": True, "teacher": "momentum"}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("run")
    write_data(folder)
    return folder


def logged(output: Path, name: str) -> list[float]:
    lines = map(json.loads, (output / "metrics.jsonl").read_text(encoding="utf-8").splitlines())
    return [line[name] for line in lines if name in line]


# Wrong numbers -------------------------------------------------------------------------------------------


class Spoil(Callback):
    """In the third step an image of the batch, or a weight, is not a number."""

    def __init__(self, weight: str) -> None:
        self.weight = weight
        self.rows: list[int] = []
        self.before: dict[str, torch.Tensor] = {}

    def on_train_batch_start(self, trainer: L.Trainer, pl_module: Any, batch: Any, batch_idx: int) -> None:
        if trainer.global_step != 2:
            return
        self.rows = batch["index"]
        if self.weight:
            pl_module.get_parameter(self.weight).data[0] = torch.nan
        else:
            batch["image"][1] = torch.nan
        self.before = {name: p.detach().clone() for name, p in pl_module.named_parameters() if p.requires_grad}


CASES = [
    ("Pretrain", ""),
    ("Pretrain", "text_proj.weight"),
    ("Pretrain", "visual_encoder_m.cls_token"),
    ("Retrieval", ""),
    ("VQA", ""),
    ("VE", "cls_head.0.weight"),
    ("NLVR", ""),
    ("Pretrain_nlvr", "ta_head.weight"),
]


@pytest.mark.parametrize(("script", "weight"), CASES)
def test_what_is_no_number_stops_the_run(script: str, weight: str, folder: Path, tmp_path: Path) -> None:
    """By the list and the rows of its batch; no step is made of it and nothing is saved."""
    config = config_of(script, folder, output_dir=str(tmp_path))
    made, spoil = built(script, config), Spoil(weight)
    made.run.trainer.callbacks.append(spoil)  # type: ignore[attr-defined]
    with pytest.raises(SystemExit) as stopped:
        train(made.run, config, config["seed"])
    said = str(stopped.value.code)
    assert said.startswith("error: a loss that is not finite in step 3, rank 0: ")
    name = "train" if script == "Pretrain" else f"{script}_train"
    for row in spoil.rows:
        assert f"dataset {name}, index {row}, text {words(row)}" in said, said
    assert made.run.trainer.global_step == 2
    parameters = dict(made.run.model.named_parameters())
    assert all(torch.equal(parameters[key].nan_to_num(), v.nan_to_num()) for key, v in spoil.before.items())
    report = json.loads((tmp_path / "nonfinite_rank0.json").read_text())
    assert report["batches"][0]["samples"]["index"] == spoil.rows
    assert not [*tmp_path.rglob("*.ckpt"), *tmp_path.rglob("*.pth")]


# Broken images -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("script", ["Pretrain", "NLVR"])
def test_images_that_cannot_be_read_are_counted(
    script: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_data(tmp_path)
    broken = (13, 17)  # which no evaluation reads
    for number in broken:
        (tmp_path / f"{number}.png").write_bytes(b"no image")
    config = config_of(script, tmp_path, max_steps=6, log_every_n_steps=1)
    config["train_file"] = [str(training_rows(tmp_path, script))]
    trained(script, config)
    (line,) = (line for line in capsys.readouterr().out.splitlines() if line.startswith("skipped "))
    skipped = logged(tmp_path / "run", "data/skipped/rows")
    assert skipped == sorted(skipped) and skipped[-1] >= len(broken)
    assert line.startswith(f"skipped {skipped[-1]:.0f} of ") and "images (rows)" in line


def training_rows(folder: Path, script: str) -> Path:
    """The script's training list, less what one epoch leaves out: every row is read."""
    name = "train" if script == "Pretrain" else f"{script}_train"
    rows = json.loads((folder / f"{name}.json").read_text())
    (folder / "rows.json").write_text(json.dumps(rows[: ROWS // 4 * 4]))
    return folder / "rows.json"


# Other ways to compute -----------------------------------------------------------------------------------

WAYS: dict[str, Any] = {"gradient_checkpointing": True, "compile": "eager"}


@pytest.mark.parametrize("way", ["gradient_checkpointing", pytest.param("compile", marks=pytest.mark.slow)])
@pytest.mark.parametrize("script", ["Pretrain", "VQA"])
def test_the_losses_of_a_run_stay_as_they_are(script: str, way: str, folder: Path, tmp_path: Path) -> None:
    """With dropout, whose draws are the same, and in pre-training with EPIC."""
    keys: dict[str, Any] = {"max_steps": 4, "log_every_n_steps": 1, "optimizer": {"lr": 1e-3}}
    keys |= {"schedular": {"lr": 1e-3, "warmup_lr": 1e-3}}
    losses = ["train/loss_mlm", "train/loss_ita", "train/loss_itm"] if script == "Pretrain" else ["train/loss"]
    if script == "Pretrain":
        keys["epic"] = MOMENTUM
        losses += ["epic/train/epic_itc", "epic/train/epic_gen"]
    for name, changes in (("plain", {}), ("other", {way: WAYS[way]})):
        trained(script, config_of(script, folder, **keys, **changes, output_dir=str(tmp_path / name)))
    for name in losses:
        plain, other = (logged(tmp_path / run, name) for run in ("plain", "other"))
        assert len(plain) == 4 and len(set(plain)) > 1, name
        assert other == pytest.approx(plain, rel=1e-4), name
