"""Runs of every script broken within an epoch, at its end and after every step, against the run that nothing breaks."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.launch.test_resume import tensors
from tests.unit.albef.task_runs import SCRIPTS, config_of, trained, write_data
from tests.unit.training.test_exact_resume import timeless

STEPS, EPOCH = 12, 6
OWN_STATE = {
    "Pretrain": ("image_queue", "text_queue", "queue_ptr", "temp", "text_encoder_m.cls.predictions.bias"),
    "Retrieval": ("image_queue", "text_queue", "queue_ptr", "idx_queue", "visual_encoder_m.cls_token"),
    "VQA": ("text_decoder_m.cls.predictions.bias", "visual_encoder_m.cls_token"),
    "VE": ("cls_head_m.0.weight",),
    "NLVR": ("cls_head_m.0.weight",),
    "Pretrain_nlvr": ("ta_head.weight",),
    "Grounding": ("image_queue", "text_queue", "queue_ptr", "idx_queue"),
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("run")
    write_data(folder)
    return folder


def run(script: str, folder: Path, output: Path, cuts: Sequence[int]) -> Path:
    """A run to its end that ``max_steps`` has ended at each of ``cuts`` before."""
    for end in (*cuts, None):
        changes = {"max_steps": end, "resume_from": "auto", "log_every_n_steps": 1, "output_dir": str(output)}
        trained(script, config_of(script, folder, **changes))
    return output


def lines(output: Path) -> list[dict[str, Any]]:
    """Without the means of an epoch that has been cut, which are those of a part of it."""
    log = (output / "metrics.jsonl").read_text(encoding="utf-8")
    found = [json.loads(line) for line in timeless(log)]
    return [line for line in found if not any(name.endswith("_epoch") for name in line)]


def means(output: Path) -> list[dict[str, Any]]:
    """Of every whole epoch."""
    found = (json.loads(line) for line in timeless((output / "metrics.jsonl").read_text(encoding="utf-8")))
    return [line for line in found if any(k.endswith("_epoch") for k in line) and (line["step"] + 1) % EPOCH == 0]


def same_end(script: str, broken: Path, whole: Path) -> None:
    ours, theirs = (torch.load(run / "checkpoints/last.ckpt", weights_only=True) for run in (broken, whole))
    assert ours["global_step"] == theirs["global_step"] == STEPS
    assert set(OWN_STATE[script]) <= set(theirs["state_dict"])
    found, expected = tensors(ours), tensors(theirs)
    assert found.keys() == expected.keys() and len(found) > 200
    assert [name for name, value in expected.items() if not torch.equal(found[name], value)] == []
    for part in ("lr_schedulers", "loops"):
        assert str(ours[part]) == str(theirs[part]), part
    assert lines(broken) == lines(whole) and means(broken) == means(whole) != []
    assert (broken / "log.txt").read_text() == (whole / "log.txt").read_text()


@pytest.mark.parametrize("script", SCRIPTS)
def test_cut_within_epochs_and_at_an_epochs_end(script: str, folder: Path, tmp_path: Path) -> None:
    whole, broken = run(script, folder, tmp_path / "whole", ()), run(script, folder, tmp_path / "broken", (2, 6))
    same_end(script, broken, whole)


def test_pre_training_cut_after_every_step(folder: Path, tmp_path: Path) -> None:
    """The ramp of the soft targets' weight goes on within epoch 0, the learning rate is that of each epoch."""
    whole = run("Pretrain", folder, tmp_path / "whole", ())
    broken = run("Pretrain", folder, tmp_path / "broken", range(1, STEPS))
    same_end("Pretrain", broken, whole)
    steps = [line for line in lines(broken) if "train/alpha" in line]
    alphas = [0.4 * min(1.0, i / EPOCH) if i < EPOCH else 0.4 for i in range(STEPS)]
    assert [line["train/alpha"] for line in steps] == pytest.approx(alphas)
    rates = [line["lr/pg1"] for line in lines(broken) if "lr/pg1" in line]
    assert len(set(rates[:EPOCH])) == len(set(rates[EPOCH:STEPS])) == 1 and rates[0] != rates[EPOCH]


@pytest.mark.parametrize("name", ["refs(unc).p", "instances.json"])
def test_other_references_are_refused_unless_they_are_meant(name: str, folder: Path, tmp_path: Path) -> None:
    """A digit of a reference or a box; the files have moved, which is no change."""
    moved = shutil.copytree(folder, tmp_path / "moved", ignore=shutil.ignore_patterns("run*"))
    keys: dict[str, Any] = {"resume_from": "auto", "output_dir": str(tmp_path / "run")}
    trained("Grounding", config_of("Grounding", folder, max_steps=1, **keys))
    keys["refcoco_data"] = str(moved)
    trained("Grounding", config_of("Grounding", folder, max_steps=2, **keys))
    path = moved / "refcoco+" / name
    old, new = (b"testB", b"testA") if name.endswith(".p") else (b'"bbox": [0, 1', b'"bbox": [2, 1')
    content = path.read_bytes()
    path.write_bytes(content.replace(old, new, 1))
    assert path.read_bytes() != content
    said = rf"fed other data: {re.escape(name)} \(refcoco_data\) was '\d+ bytes, "
    with pytest.raises((ValueError, SystemExit), match=said):
        trained("Grounding", config_of("Grounding", folder, max_steps=3, **keys))
    trained("Grounding", config_of("Grounding", folder, max_steps=3, resume_anyway="data", **keys))
    assert torch.load(tmp_path / "run/checkpoints/last.ckpt", weights_only=True)["global_step"] == 3
