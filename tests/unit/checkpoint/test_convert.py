"""Checkpoints rewritten: the same tensors under the same names, nothing in the file run, the output safe to load."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import types
from argparse import Namespace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from torch import Tensor

from tests.unit.checkpoint.files import CONFIG, HYPER_PARAMETERS, malicious, meter_state, official
from vlp.checkpoint.__main__ import main
from vlp.checkpoint.convert import convert
from vlp.checkpoint.weights import (
    WeightsError,
    read_checkpoint,
    read_metadata,
    read_state_dict,
    saved_config,
    sha256_of_file,
)

ROOT = Path(__file__).parents[3]
RUN = ("optimizer_states", "lr_schedulers", "callbacks", "loops", "random_states", "epic", "MTDataModule")
VERSIONS = {"torch": "2.13.0", "lightning": "2.6.6"}


def same(a: dict[str, Tensor], b: dict[str, Tensor]) -> bool:
    """Names, types, shapes and bytes."""
    return a.keys() == b.keys() and all(a[name].dtype == b[name].dtype and torch.equal(a[name], b[name]) for name in a)


def ours(path: Path) -> dict[str, Any]:
    """A run's checkpoint with EPIC."""
    content: dict[str, Any] = {
        "epoch": 0,
        "global_step": 3,
        "pytorch-lightning_version": "2.6.6",
        "state_dict": {**meter_state(), "epic.head.weight": torch.randn(1, 4), "epic.generator.w": torch.randn(3)},
        "hyper_parameters": {"config": CONFIG},
        "versions": VERSIONS,
        **{key: {"x": torch.ones(2)} for key in RUN},
    }
    torch.save(content, path)
    return content


def test_ours_to_safetensors_and_back(tmp_path: Path) -> None:
    content = ours(tmp_path / "run.ckpt")
    student = {name: t for name, t in content["state_dict"].items() if not name.startswith("epic.")}
    done = convert(tmp_path / "run.ckpt", tmp_path / "student.safetensors")
    assert (done.tensors, done.dropped, done.pickled) == (len(student), 2, [])
    assert same(read_state_dict(tmp_path / "student.safetensors"), student)
    source = {"file": "run.ckpt", "sha256": sha256_of_file(tmp_path / "run.ckpt")}
    described = {"epoch": 0, "global_step": 3, "versions": VERSIONS, "config": CONFIG, "source": source}
    assert read_metadata(tmp_path / "student.safetensors") == {"format": "pt", **described}
    assert saved_config(tmp_path / "student.safetensors") == CONFIG

    convert(tmp_path / "student.safetensors", tmp_path / "back.ckpt")
    back = read_checkpoint(tmp_path / "back.ckpt")
    assert same(back["state_dict"], student)
    assert back["hyper_parameters"] == {"config": CONFIG} and back["versions"] == VERSIONS
    assert (back["epoch"], back["global_step"]) == (0, 3) and back["source"]["file"] == "student.safetensors"
    assert "config" not in back and not back.keys() & set(RUN)


def test_the_safetensors_file_says_in_its_header_that_it_is_pytorch(tmp_path: Path) -> None:
    """transformers and diffusers refuse files that do not."""
    ours(tmp_path / "run.ckpt")
    convert(tmp_path / "run.ckpt", tmp_path / "a.safetensors")
    with safe_open(tmp_path / "a.safetensors", framework="pt") as handle:
        assert handle.metadata()["format"] == "pt"


def test_official_to_ours_to_official(tmp_path: Path) -> None:
    """Names in their order, bytes, and what else official code reads; known extras stay."""
    content = official(tmp_path / "official.ckpt")
    convert(tmp_path / "official.ckpt", tmp_path / "ours.ckpt")
    convert(tmp_path / "ours.ckpt", tmp_path / "again.ckpt")
    again = torch.load(tmp_path / "again.ckpt", weights_only=True)
    assert same(again["state_dict"], content["state_dict"])
    assert list(again["state_dict"]) == list(content["state_dict"])
    assert again["hyper_parameters"]["config"] == CONFIG
    rest = content.keys() - {"state_dict", "optimizer_states"}
    assert {key: again[key] for key in rest} == {key: content[key] for key in rest}
    assert torch.equal(
        again["optimizer_states"][0]["state"][0]["exp_avg"], content["optimizer_states"][0]["state"][0]["exp_avg"]
    )


def test_a_run_of_ours_goes_through_whole_unless_the_student_alone_is_asked_for(tmp_path: Path) -> None:
    content = ours(tmp_path / "run.ckpt")
    convert(tmp_path / "run.ckpt", tmp_path / "whole.ckpt")
    whole = read_checkpoint(tmp_path / "whole.ckpt")
    assert same(whole["state_dict"], content["state_dict"]) and whole.keys() == content.keys() | {"source"}

    assert convert(tmp_path / "run.ckpt", tmp_path / "student.ckpt", student=True).dropped == 2
    student = read_checkpoint(tmp_path / "student.ckpt")
    assert same(student["state_dict"], meter_state_of(content)) and not student.keys() & set(RUN)
    assert student["hyper_parameters"] == {"config": CONFIG} and student["versions"] == VERSIONS


def meter_state_of(content: dict[str, Any]) -> dict[str, Tensor]:
    return {name: t for name, t in content["state_dict"].items() if not name.startswith("epic.")}


@pytest.mark.parametrize("suffix", [".ckpt", ".safetensors"])
def test_bare_weights_and_other_containers(suffix: str, tmp_path: Path) -> None:
    state, target = meter_state(), tmp_path / f"out{suffix}"
    torch.save(state, tmp_path / "bare.pt")
    convert(tmp_path / "bare.pt", target)
    assert same(read_state_dict(target), state) and saved_config(target) == {}
    torch.save({"model": state, "epoch": 3}, tmp_path / "albef.pth")  # ALBEF's and X-VLM's container
    convert(tmp_path / "albef.pth", target, overwrite=True)
    assert same(read_state_dict(target), state)
    if suffix == ".ckpt":
        assert read_checkpoint(target).keys() == {"model", "epoch", "source"}
    module = torch.nn.Linear(2, 3)
    torch.jit.script(module).save(str(tmp_path / "script.pt"))
    convert(tmp_path / "script.pt", target, overwrite=True)
    assert same(read_state_dict(target), {name: t.detach() for name, t in module.state_dict().items()})


# Pickled objects ------------------------------------------------------------------------------------------

PICKLED = [name for name in HYPER_PARAMETERS if name != "plain"]


@pytest.mark.parametrize("zipped", [True, False], ids=["zip", "legacy"])
@pytest.mark.parametrize("kind", PICKLED)
def test_old_official_files_need_the_trust_step_and_come_out_safe(kind: str, zipped: bool, tmp_path: Path) -> None:
    content = official(tmp_path / "old.ckpt", kind, zipped)
    with pytest.raises(WeightsError, match=r"old\.ckpt: holds pickled Python objects \(.*\).*--trust"):
        convert(tmp_path / "old.ckpt", tmp_path / "new.ckpt")
    assert not (tmp_path / "new.ckpt").exists()
    done = convert(tmp_path / "old.ckpt", tmp_path / "new.ckpt", trust=True)
    callback = "lightning.pytorch.callbacks.model_checkpoint.ModelCheckpoint"
    assert callback in done.pickled
    new = torch.load(tmp_path / "new.ckpt", weights_only=True)
    assert same(new["state_dict"], content["state_dict"])
    assert new["hyper_parameters"] == {"config": CONFIG} and saved_config(tmp_path / "new.ckpt") == CONFIG
    assert new["callbacks"] == {callback: {"best_model_score": torch.tensor(1.5)}}
    assert (new["epoch"], new["global_step"]) == (9, 100000)


def test_the_classes_of_a_trusted_file_are_not_even_imported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Lightning 1.3's are not there any more; a module made up here stands for them."""
    module: Any = types.ModuleType("long_gone")
    exec("class Old:\n    pass", module.__dict__)
    monkeypatch.setitem(sys.modules, "long_gone", module)
    old = module.Old()
    old.config = {"vit": "ViT-B/32"}
    torch.save({"state_dict": {"a": torch.ones(2)}, "hyper_parameters": old}, tmp_path / "old.ckpt")
    monkeypatch.delitem(sys.modules, "long_gone")
    assert convert(tmp_path / "old.ckpt", tmp_path / "new.ckpt", trust=True).pickled == ["long_gone.Old"]
    assert saved_config(tmp_path / "new.ckpt") == {"vit": "ViT-B/32"}
    assert "long_gone" not in sys.modules


@pytest.mark.parametrize("trust", [False, True])
@pytest.mark.parametrize("zipped", [True, False], ids=["zip", "legacy"])
def test_a_file_that_runs_a_command_is_refused_trusted_or_not(trust: bool, zipped: bool, tmp_path: Path) -> None:
    path, mark = tmp_path / "evil.ckpt", tmp_path / "executed"
    malicious(path, mark, zipped)
    for target in ("out.ckpt", "out.safetensors"):
        with pytest.raises(WeightsError, match=r"evil\.ckpt: wants to call posix\.system"):
            convert(path, tmp_path / target, trust=trust)
    assert not mark.exists() and not list(tmp_path.glob("out.*"))
    torch.load(path, weights_only=False)  # it does what it says where it is unpickled
    assert mark.exists()


# The same bytes again, and what is there already -----------------------------------------------------------


def test_the_same_file_gives_the_same_bytes_in_every_process(tmp_path: Path) -> None:
    """Otherwise a teacher that is converted again is another teacher, to a resumed run and to a saliency cache."""
    ours(tmp_path / "run.ckpt")
    kept = Namespace(names={"one", "two", "three"}, config=CONFIG)  # a set has another order in every process
    torch.save({"state_dict": meter_state(), "hyper_parameters": {"config": kept}}, tmp_path / "old.ckpt")
    commands = [
        ["run.ckpt", "a.safetensors"],
        ["run.ckpt", "a.ckpt", "--student"],
        ["run.ckpt", "b.ckpt"],
        ["old.ckpt", "c.ckpt", "--trust"],
        ["old.ckpt", "d.safetensors", "--trust"],
    ]
    script = (
        f"from vlp.checkpoint.__main__ import main\nfor command in {commands}: assert not main(['convert', *command])"
    )
    for number in "12":
        folder = tmp_path / number
        folder.mkdir()
        for name in ("run.ckpt", "old.ckpt"):
            shutil.copy(tmp_path / name, folder)
        environment = {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONHASHSEED": number}
        subprocess.run([sys.executable, "-c", script], cwd=folder, env=environment, check=True, capture_output=True)
    for _, name, *_ in commands:
        assert (tmp_path / "1" / name).read_bytes() == (tmp_path / "2" / name).read_bytes(), name


@pytest.mark.parametrize("name", ["out.ckpt", "out.safetensors"])
def test_a_file_that_is_there_is_replaced_only_where_that_is_asked_for(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    ours(tmp_path / "run.ckpt")
    (tmp_path / name).write_bytes(b"valuable")
    command = ["convert", str(tmp_path / "run.ckpt"), str(tmp_path / name)]
    assert main(command) == 1
    message = f"error: {tmp_path / name}: is there already and is kept; give another name, or --overwrite\n"
    assert capsys.readouterr().err == message
    assert (tmp_path / name).read_bytes() == b"valuable"
    assert main([*command, "--overwrite"]) == 0
    assert read_state_dict(tmp_path / name)


def test_a_file_that_cannot_be_converted_leaves_the_old_one(tmp_path: Path) -> None:
    torch.save({"epoch": 3}, tmp_path / "epoch.ckpt")
    (tmp_path / "out.ckpt").write_bytes(b"valuable")
    with pytest.raises(WeightsError, match="holds no tensors"):
        convert(tmp_path / "epoch.ckpt", tmp_path / "out.ckpt", overwrite=True)
    assert (tmp_path / "out.ckpt").read_bytes() == b"valuable"


# The command line -----------------------------------------------------------------------------------------


def test_command_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    official(tmp_path / "old.ckpt", "namespace")
    source, target = str(tmp_path / "old.ckpt"), str(tmp_path / "new.ckpt")
    assert main(["convert", source, target]) == 1
    assert capsys.readouterr().err.startswith(f"error: {source}: holds pickled Python objects (argparse.Namespace, ")
    assert main(["convert", source, target, "--trust"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("taken over as plain data, nothing was run: objects of argparse.Namespace, ")
    assert lines[1:] == [f"{target}: {len(meter_state())} tensors, sha256 {sha256_of_file(target)}"]


def test_the_student_alone_on_the_command_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    ours(tmp_path / "run.ckpt")
    assert main(["convert", str(tmp_path / "run.ckpt"), str(tmp_path / "out.ckpt"), "--student"]) == 0
    assert "left out: 2 tensors of EPIC's generator and head" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("source", "target", "message"),
    [
        ("nowhere.ckpt", "out.ckpt", "nowhere.ckpt: no such file"),
        ("run.ckpt", "out.txt", "out.txt: give it the suffix .ckpt or .safetensors"),
        ("run.ckpt", "run.ckpt", "run.ckpt: is the file that is read; give another name"),
        ("run.ckpt", "file/out.ckpt", "file"),
        ("run.ckpt", "folder.ckpt", "folder.ckpt: is a folder; give the name of a file"),
        ("epoch.ckpt", "out.safetensors", "epoch.ckpt: holds no tensors (its keys are ['epoch'])"),
    ],
)
def test_wrong_arguments(
    source: str, target: str, message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    ours(tmp_path / "run.ckpt")
    torch.save({"epoch": 3}, tmp_path / "epoch.ckpt")
    (tmp_path / "file").touch()
    (tmp_path / "folder.ckpt").mkdir()
    before = (tmp_path / "run.ckpt").read_bytes()
    assert main(["convert", str(tmp_path / source), str(tmp_path / target)]) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: ") and message in line
    assert (tmp_path / "run.ckpt").read_bytes() == before and not list(tmp_path.glob("out.*"))
