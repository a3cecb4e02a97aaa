"""Weights files through the real launcher: safe ones of every form serve, hostile ones run nothing."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from tests.launch.launcher import OTHERS_SLOW, SHARED_CODE, Launcher, Result
from tests.launch.test_refusals import refused
from tests.unit.checkpoint.files import malicious
from vlp.checkpoint.convert import convert
from vlp.versions import package_versions


@SHARED_CODE
def test_a_runs_checkpoint_says_what_wrote_it(vanilla: Result) -> None:
    assert torch.load(vanilla.checkpoint, weights_only=True)["versions"] == package_versions()


@SHARED_CODE
@pytest.mark.parametrize(
    "items",
    [
        ("load_path={}",),
        ("epic", "teacher_path={}"),
        ("init.vision={}",),
    ],
    ids=lambda items: items[-1].split("=")[0],
)
def test_a_file_that_runs_a_command_is_refused_and_runs_nothing(
    items: tuple[str, ...], launcher: Launcher, tmp_path: Path
) -> None:
    path, mark = tmp_path / "evil.ckpt", tmp_path / "executed"
    malicious(path, mark)
    run = launcher.pretrain(*(item.format(path) for item in items), check=False)
    refused(run, f"error: {path}: wants to call posix.system", status=1)
    assert not mark.exists()


@OTHERS_SLOW
def test_converted_files_serve_as_teacher_and_as_start(
    launcher: Launcher, vanilla: Result, epic: Result, tmp_path: Path
) -> None:
    """The saliency is that of the teacher's own checkpoint; its architecture came along in the file."""
    teacher, student = tmp_path / "teacher.safetensors", tmp_path / "student.safetensors"
    convert(vanilla.checkpoint, teacher)
    convert(epic.checkpoint, student)
    items = ("epic", f"teacher_path={teacher}", f"load_path={student}", "epic.mask_ratio=0.5", "max_steps=1")
    run = launcher.pretrain(*items)
    entropy = "epic/train/epic_saliency_entropy"
    assert run.values(entropy)[0] == epic.values(entropy)[0]
    assert run.values("mlm/train/loss")[0] != epic.values("mlm/train/loss")[0]
    state = torch.load(vanilla.checkpoint, weights_only=True)["state_dict"]
    tensors = sum(not name.endswith("position_ids") for name in state)
    assert f"[load] {student}, {tensors} tensors, sha256 " in run.output
