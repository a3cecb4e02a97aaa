"""Weights files are read without running what is in them; a broken one is refused by its name."""

from __future__ import annotations

import pickle
import re
import zipfile
from argparse import Namespace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from vlp.checkpoint.inspection import inspect
from vlp.checkpoint.weights import (
    WeightsError,
    check_tensors,
    read_checkpoint,
    read_state_dict,
    saved_config,
    sha256_of_file,
    sha256_of_tensors,
)

STATE = {"a.weight": torch.arange(6.0).reshape(2, 3), "a.bias": torch.ones(2).half()}


class Touch:
    """Unpickling this creates a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return Path.touch, (self.path,)


class Holder(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a = nn.Linear(3, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.a(x)


@pytest.mark.parametrize("wrap", ["bare", "state_dict", "model"])
def test_state_dicts_bare_or_under_a_key(wrap: str, tmp_path: Path) -> None:
    content: dict[str, Any] = STATE if wrap == "bare" else {wrap: STATE, "epoch": 3}
    torch.save(content, tmp_path / "w.pt")
    loaded = read_state_dict(tmp_path / "w.pt")
    assert loaded.keys() == STATE.keys()
    assert all(torch.equal(loaded[key], value) and loaded[key].dtype == value.dtype for key, value in STATE.items())


def test_legacy_files_without_zip(tmp_path: Path) -> None:
    torch.save(STATE, tmp_path / "old.pth", _use_new_zipfile_serialization=False)
    assert torch.equal(read_state_dict(tmp_path / "old.pth")["a.weight"], STATE["a.weight"])


def test_safetensors_and_torchscript(tmp_path: Path) -> None:
    save_file(STATE, tmp_path / "w.safetensors")
    assert torch.equal(read_state_dict(tmp_path / "w.safetensors")["a.bias"], STATE["a.bias"])
    module = Holder()
    torch.jit.script(module).save(str(tmp_path / "w.pt"))
    loaded = read_state_dict(tmp_path / "w.pt")
    assert loaded.keys() == {"a.weight", "a.bias"} and torch.equal(loaded["a.weight"], module.a.weight)


class Nested(nn.Module):
    """Modules in a module, shared and tied ones, buffers, a half-precision one, and attributes that are no tensors."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = nn.Sequential(Holder(), nn.BatchNorm1d(2), nn.ReLU())
        self.again = self.inner[0]
        self.tied = self.again.a.weight  # type: ignore[union-attr]
        self.low = nn.Parameter(torch.randn(3).half())
        self.register_buffer("ids", torch.arange(4))
        self.register_buffer("scalar", torch.tensor(2.5))
        self.count, self.names = 3, ["a", "b"]

    def forward(self, x: Tensor) -> Tensor:
        return self.inner(x) * self.count


def test_torchscript_gives_what_torch_itself_gives(tmp_path: Path) -> None:
    module = Nested()
    torch.jit.script(module).save(str(tmp_path / "w.pt"))
    ours, theirs = read_state_dict(tmp_path / "w.pt"), torch.jit.load(str(tmp_path / "w.pt")).state_dict()
    assert ours.keys() >= set(theirs) and len(theirs) >= 10
    for name, value in theirs.items():
        assert ours[name].dtype == value.dtype and torch.equal(ours[name], value) and not ours[name].requires_grad


class Writes(nn.Module):
    """torch.jit.load of its archive writes a file."""

    def __init__(self, path: str) -> None:
        super().__init__()
        self.w, self.path = nn.Parameter(torch.ones(2)), path

    @torch.jit.export
    def __getstate__(self) -> tuple[Tensor, str, bool]:
        return (self.w, self.path, self.training)

    @torch.jit.export
    def __setstate__(self, state: tuple[Tensor, str, bool]) -> None:
        self.w, self.path, self.training = state[0], state[1], state[2]  # type: ignore[assignment]
        torch.save(state[0], self.path)

    def forward(self, x: Tensor) -> Tensor:
        return self.w


def test_the_code_of_a_torchscript_archive_is_not_run(tmp_path: Path) -> None:
    path, mark = tmp_path / "evil.pt", tmp_path / "written"
    torch.jit.script(Writes(str(mark))).save(str(path))
    mark.unlink(missing_ok=True)
    with pytest.raises(WeightsError, match=r"evil\.pt: holds no tensors"):
        read_state_dict(path)
    assert inspect(path)["error"] and not mark.exists()
    torch.jit.load(str(path))  # it does what it says where it is run
    assert mark.exists()


# What is refused -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["w.ckpt", "w.pt", "w.safetensors"])
def test_missing_files(name: str, tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match=rf"{name}: no such file"):
        read_state_dict(tmp_path / name)


@pytest.mark.parametrize("name", ["w.ckpt", "w.safetensors"])
@pytest.mark.parametrize("content", [b"", b"<html>404</html>", bytes(range(256)) * 8, b"PK\x03\x04 not a zip at all"])
def test_files_that_are_no_weights(name: str, content: bytes, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(WeightsError, match=name):
        read_state_dict(tmp_path / name)


@pytest.mark.parametrize("form", ["zip", "legacy", "safetensors", "torchscript"])
@pytest.mark.parametrize("share", [0.2, 0.6, 0.99])
def test_truncated_files(form: str, share: float, tmp_path: Path) -> None:
    path = tmp_path / ("w.safetensors" if form == "safetensors" else "w.pt")
    state = {"w": torch.randn(100, 100)}
    if form == "safetensors":
        save_file(state, path)
    elif form == "torchscript":
        torch.jit.script(Holder()).save(str(path))
    else:
        torch.save(state, path, _use_new_zipfile_serialization=form == "zip")
    whole = path.read_bytes()
    path.write_bytes(whole[: int(share * len(whole))])
    with pytest.raises(WeightsError, match=path.name):
        read_state_dict(path)


@pytest.mark.parametrize("form", ["zip", "legacy", "pickle", "torchscript"])
def test_pickled_objects_are_not_run(form: str, tmp_path: Path) -> None:
    path, mark = tmp_path / "evil.ckpt", tmp_path / "executed"
    content = {"state_dict": STATE, "hyper_parameters": Touch(mark)}
    if form == "pickle":
        path.write_bytes(pickle.dumps(content, protocol=2))
    elif form == "torchscript":
        with zipfile.ZipFile(path, "w") as archive:
            for name in ("evil/constants.pkl", "evil/data.pkl"):
                archive.writestr(name, pickle.dumps(content, protocol=2))
            archive.writestr("evil/version", "3\n")
    else:
        torch.save(content, path, _use_new_zipfile_serialization=form == "zip")
    with pytest.raises(WeightsError, match=r"evil\.ckpt"):
        read_state_dict(path)
    assert not mark.exists()
    if form == "zip":  # the file does what it says where it is trusted
        torch.load(path, weights_only=False)
        assert mark.exists()


def test_checkpoints_with_pickled_objects_say_what_to_do(tmp_path: Path) -> None:
    path = tmp_path / "old.ckpt"
    torch.save({"state_dict": STATE, "hyper_parameters": Namespace(lr=1)}, path)
    command = re.escape(f"python -m vlp.checkpoint convert {path} OUT.ckpt --trust")
    with pytest.raises(WeightsError, match=rf"holds pickled Python objects \(argparse\.Namespace\).*{command}"):
        read_checkpoint(path)


@pytest.mark.parametrize("form", ["zip", "legacy"])
def test_files_that_want_to_run_something_are_not_recommended(form: str, tmp_path: Path) -> None:
    path = tmp_path / "evil.ckpt"
    torch.save({"x": Touch(tmp_path / "executed")}, path, _use_new_zipfile_serialization=form == "zip")
    with pytest.raises(WeightsError, match=r"wants to call builtins\.getattr, as a malicious file does") as refusal:
        read_checkpoint(path)
    assert "--trust" not in str(refusal.value) and not (tmp_path / "executed").exists()


def test_folders_and_empty_files_are_named_as_such(tmp_path: Path) -> None:
    (tmp_path / "empty.ckpt").touch()
    for path, what in ((tmp_path, "is a folder"), (tmp_path / "empty.ckpt", r"is empty \(0 bytes\)")):
        for read in (read_checkpoint, read_state_dict, saved_config):
            with pytest.raises(WeightsError, match=f"{path}: {what}"):
                read(path)


def test_a_look_at_a_checkpoint_leaves_its_tensors_on_the_disk(tmp_path: Path) -> None:
    for zipped in (True, False):  # old files cannot be mapped and are read whole
        torch.save({"state_dict": STATE, "epoch": 3}, tmp_path / "a.ckpt", _use_new_zipfile_serialization=zipped)
        looked = read_checkpoint(tmp_path / "a.ckpt", mmap=True)
        assert looked["epoch"] == 3 and torch.equal(looked["state_dict"]["a.weight"], STATE["a.weight"])


def test_files_without_tensors(tmp_path: Path) -> None:
    torch.save({"epoch": 3}, tmp_path / "empty.ckpt")
    with pytest.raises(WeightsError, match=r"holds no tensors \(its keys are \['epoch'\]\)"):
        read_state_dict(tmp_path / "empty.ckpt")
    torch.save([1, 2], tmp_path / "list.ckpt")
    with pytest.raises(WeightsError, match="holds a list, expected a dictionary"):
        read_state_dict(tmp_path / "list.ckpt")


# Config and hashes ---------------------------------------------------------------------------------------


def test_saved_config_of_our_runs_and_of_bare_weights(tmp_path: Path) -> None:
    torch.save({"state_dict": STATE, "hyper_parameters": {"config": {"vit": "ViT-B/16"}}}, tmp_path / "run.ckpt")
    assert saved_config(tmp_path / "run.ckpt") == {"vit": "ViT-B/16"}
    torch.save(STATE, tmp_path / "bare.pt")
    assert saved_config(tmp_path / "bare.pt") == {}
    torch.save({"state_dict": STATE, "hyper_parameters": {"lr": 1}}, tmp_path / "other.ckpt")
    assert saved_config(tmp_path / "other.ckpt") == {}
    for metadata in (None, {"config": '{"vit": "ViT-B/16"}'}, {"config": "not JSON"}):
        save_file(STATE, tmp_path / "w.safetensors", metadata=metadata)
        expected = {"vit": "ViT-B/16"} if metadata and metadata["config"].startswith("{") else {}
        assert saved_config(tmp_path / "w.safetensors") == expected
    torch.jit.script(Holder()).save(str(tmp_path / "script.pt"))
    assert saved_config(tmp_path / "script.pt") == {}


def test_hash_of_a_file_is_sha256(tmp_path: Path) -> None:
    (tmp_path / "abc").write_bytes(b"abc")
    # FIPS 180-2, appendix B.1
    assert sha256_of_file(tmp_path / "abc") == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"


def test_hash_of_tensors_sees_names_shapes_types_and_values_but_not_order() -> None:
    one = sha256_of_tensors(STATE)
    assert sha256_of_tensors(dict(reversed(STATE.items()))) == one
    changed = [
        {**STATE, "a.bias": torch.tensor([1.0, 1.001]).half()},
        {**STATE, "a.bias": STATE["a.bias"].float()},
        {**STATE, "a.weight": STATE["a.weight"].reshape(3, 2)},
        {"b.weight": STATE["a.weight"], "a.bias": STATE["a.bias"]},
    ]
    assert len({one, *(sha256_of_tensors(state) for state in changed)}) == 5
    assert len(sha256_of_tensors({"scalar": torch.tensor(1.0), "empty": torch.zeros(0)})) == 64


# Numbers that are none -----------------------------------------------------------------------------------------

MODEL = {"a.weight": torch.zeros(2, 3), "a.ids": torch.zeros(2, dtype=torch.long), "a.empty": torch.zeros(0, 3)}


@pytest.mark.parametrize("kind", [torch.float32, torch.float64, torch.float16, torch.bfloat16])
@pytest.mark.parametrize("value", [torch.nan, torch.inf, -torch.inf])
def test_a_value_that_is_no_number_is_found_wherever_it_stands(value: float, kind: torch.dtype) -> None:
    check_tensors("a.ckpt", {name: tensor.to(kind) for name, tensor in MODEL.items()}, MODEL, "")
    for place in range(6):
        weight = torch.ones(6, dtype=kind)
        weight[place] = value
        with pytest.raises(WeightsError, match=r"^a\.ckpt: NaN or infinite values in a\.weight; give an earlier"):
            check_tensors("a.ckpt", {**MODEL, "a.weight": weight.reshape(2, 3)}, MODEL, "")


def test_a_number_that_is_none_in_the_models_type() -> None:
    with pytest.raises(WeightsError, match=r"NaN or infinite values in a\.weight"):
        check_tensors("a.ckpt", {"a.weight": torch.full((2, 3), 1e300, dtype=torch.float64)}, MODEL, "")


def test_what_the_model_does_not_take_or_has_infinite_itself_may_be_so() -> None:
    mask = torch.full((3, 3), -torch.inf).triu(1)
    check_tensors("a.ckpt", {**MODEL, "mask": mask, "head": mask}, {**MODEL, "mask": mask}, "")


def test_of_many_tensors_the_first_are_named() -> None:
    state = {f"layer{i}": torch.full((2,), torch.nan) for i in range(5)}
    with pytest.raises(WeightsError, match=r"in layer0, layer1, layer2 and 2 more; "):
        check_tensors("a.ckpt", state, {name: torch.zeros(2) for name in state}, "")
