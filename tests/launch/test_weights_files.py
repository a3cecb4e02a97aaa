"""Weights files through the real launcher: safe ones of every form serve, hostile ones run nothing."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from tests.launch.launcher import OTHERS_SLOW, SHARED_CODE, Launcher, Result
from tests.launch.test_refusals import refused
from tests.unit.checkpoint.files import malicious
from tests.unit.checkpoint.test_other_files import FILES, bomb, named_pipe, null, plain_pickle, text
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


@SHARED_CODE
@pytest.mark.parametrize(
    ("items", "make"),
    [
        (("load_path={}",), named_pipe),
        (("load_path={}",), bomb),
        (("epic", "teacher_path={}"), text),
        (("epic", "teacher_path={}"), null),
        (("init.vision={}",), named_pipe),
        (("init.vision={}",), plain_pickle),
    ],
    ids=lambda value: value[-1].split("=")[0] if isinstance(value, tuple) else value.__name__,
)
def test_a_file_that_is_no_checkpoint_is_told_by_what_it_is(
    items: tuple[str, ...], make: Callable[[Path], None], launcher: Launcher, tmp_path: Path
) -> None:
    path = tmp_path / "file.ckpt"
    make(path)
    run = launcher.pretrain(*(item.format(path) for item in items), check=False)
    refused(run, FILES[make], status=1)
    assert run.output.rstrip().splitlines()[-1].startswith(f"error: {path}: ")


@SHARED_CODE
@pytest.mark.parametrize("make", [text, named_pipe, null])
def test_a_text_encoder_that_is_no_folder(make: Callable[[Path], None], launcher: Launcher, tmp_path: Path) -> None:
    make(tmp_path / "file")
    run = launcher.pretrain(f"init.text={tmp_path / 'file'}", check=False)
    refused(
        run, f"error: text encoder {tmp_path / 'file'}: is no folder; give tokenizer=FOLDER or init.text=", status=1
    )


@SHARED_CODE
def test_a_changed_byte_ends_what_would_load_it(launcher: Launcher, epic: Result, tmp_path: Path) -> None:
    """As start, as teacher, and to go on from; the tensors are named."""
    path = tmp_path / "changed.ckpt"
    content = torch.load(epic.checkpoint, weights_only=True)
    value = content["state_dict"]["itm_score.fc.weight"].numpy().tobytes()
    whole = epic.checkpoint.read_bytes()
    assert whole.count(value) == 1
    path.write_bytes(whole.replace(value, value[:-1] + bytes([value[-1] ^ 1])))
    message = f"{path}: is damaged, tensor state_dict.itm_score.fc.weight is not the one that was saved (check sum)"
    for items in ((f"load_path={path}",), ("epic", f"teacher_path={path}"), (*launcher.teacher, f"resume_from={path}")):
        refused(launcher.pretrain(*items, check=False), message, status=1)


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
