"""A changed byte of a weights file is refused, or changes nothing that is loaded."""

from __future__ import annotations

import random
import re
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file
from torch import Tensor

from tests.unit.checkpoint.files import CONFIG, meter_state
from vlp.checkpoint import integrity
from vlp.checkpoint.__main__ import main
from vlp.checkpoint.atomic_io import AtomicCheckpointIO
from vlp.checkpoint.convert import convert
from vlp.checkpoint.inspection import inspect
from vlp.checkpoint.weights import WeightsError, read_checkpoint, read_metadata, read_state_dict, saved_config

WORDS = torch.arange(10.0, 16.0).reshape(3, 2)
CONTENT: dict[str, Any] = {
    "epoch": 1,
    "global_step": 7,
    "pytorch-lightning_version": "2.6.6",
    "state_dict": {
        "words": WORDS,
        "tied": WORDS,
        "transposed": torch.arange(8.0).reshape(2, 4).T,
        "half": torch.ones(3).bfloat16(),
        "view": torch.arange(10)[3:6],
        "scalar": torch.tensor(2.0),
        "empty": torch.zeros(0, 4),
        "epic.head": torch.ones(2),
    },
    "optimizer_states": [{"state": {0: {"exp_avg": torch.tensor([0.5, 1.5]), "step": torch.tensor(3.0)}}}],
    "hyper_parameters": {"config": CONFIG},
}


def same(a: Any, b: Any) -> bool:
    """Equal in every value, type, name and tensor; order counts where an object has one."""
    if type(a) is not type(b):
        return False
    if isinstance(a, Tensor):
        return a.dtype == b.dtype and a.shape == b.shape and torch.equal(a, b)
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(same(a[key], b[key]) for key in a)
    if isinstance(a, list | tuple):
        return len(a) == len(b) and all(map(same, a, b))
    return a == b


def safetensors_content(path: Path) -> Any:
    """All that a run reads of an export."""
    about = read_metadata(path)
    return read_state_dict(path), saved_config(path), {key: about.get(key) for key in ("epoch", "versions", "source")}


READERS: dict[str, Callable[[Path], Any]] = {
    "run.ckpt": read_checkpoint,
    "student.ckpt": read_checkpoint,
    "student.safetensors": safetensors_content,
}


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("files")
    AtomicCheckpointIO().save_checkpoint(CONTENT, folder / "run.ckpt")
    for name in ("student.ckpt", "student.safetensors"):
        convert(folder / "run.ckpt", folder / name, student=True)
    return folder


def outcome(path: Path, read: Callable[[Path], Any]) -> Any:
    """What is read, or the line that refuses it."""
    try:
        return read(path)
    except WeightsError as error:
        assert str(error).startswith(f"{path}: ") and "\n" not in str(error)
        return str(error)


@pytest.mark.parametrize("name", ["run.ckpt", "student.safetensors"])
def test_no_changed_byte_is_loaded(name: str, files: Path, tmp_path: Path) -> None:
    """Every byte of the file, in a random bit: of tensors, pickle, header, directory of the archive, and padding."""
    whole, expected, draw = (files / name).read_bytes(), READERS[name](files / name), random.Random(0)
    refused = 0
    for place in range(len(whole)):
        damaged = bytearray(whole)
        damaged[place] ^= 1 << draw.randrange(8)
        path = tmp_path / f"{place}{Path(name).suffix}"
        path.write_bytes(damaged)
        got = outcome(path, READERS[name])
        path.unlink()
        refused += isinstance(got, str)
        assert isinstance(got, str) or same(got, expected), place
    assert refused > 0.5 * len(whole)  # the rest is padding between the tensors, and what no reader looks at


@settings(max_examples=60, deadline=None)
@given(st.sampled_from(list(READERS)), st.randoms(use_true_random=False))
def test_no_changed_stretch_is_loaded(
    files: Path, tmp_path_factory: pytest.TempPathFactory, name: str, draw: random.Random
) -> None:
    """Bytes overwritten, taken out, put in or cut off at the end."""
    whole = (files / name).read_bytes()
    start = draw.randrange(len(whole))
    end = min(start + draw.randrange(1, 64), len(whole))
    noise = draw.choice([b"", bytes(end - start), draw.randbytes(draw.randrange(1, 64))])
    rest = draw.choice([whole[end:], b""])
    path = tmp_path_factory.mktemp("cut") / name
    path.write_bytes(whole[:start] + noise + rest)
    got = outcome(path, READERS[name])
    assert isinstance(got, str) or same(got, READERS[name](files / name))


def with_changed(path: Path, old: bytes, new: bytes, target: Path) -> Path:
    """A copy of ``path`` with the one place that holds ``old`` changed."""
    whole = path.read_bytes()
    assert whole.count(old) == 1 and len(old) == len(new)
    target.write_bytes(whole.replace(old, new))
    return target


def values(*numbers: float) -> bytes:
    return torch.tensor(numbers, dtype=torch.float32).numpy().tobytes()


@pytest.mark.parametrize(
    ("name", "old", "tensor"),
    [
        ("run.ckpt", values(10, 11, 12, 13, 14, 15), "state_dict.words, state_dict.tied"),
        ("run.ckpt", values(0.5, 1.5), "optimizer_states.0.state.0.exp_avg"),
        ("student.safetensors", values(0, 4, 1, 5), "transposed"),
    ],
    ids=["tied", "of the optimiser", "of an export"],
)
def test_the_damaged_tensor_is_named(name: str, old: bytes, tensor: str, files: Path, tmp_path: Path) -> None:
    path = with_changed(files / name, old, old[:-1] + b"\x42", tmp_path / name)
    message = f"{path}: is damaged, tensor {tensor} is not the one that was saved (check sum); restore it from a copy"
    for read in (read_state_dict, saved_config):
        with pytest.raises(WeightsError) as refusal:
            read(path)
        assert str(refusal.value) == message
    assert inspect(path)["error"] == message
    assert main(["convert", str(path), str(tmp_path / "out.ckpt"), "--trust"]) == 1
    assert not (tmp_path / "out.ckpt").exists()


def test_a_config_that_was_changed_in_the_metadata_is_refused(files: Path, tmp_path: Path) -> None:
    path = with_changed(
        files / "student.safetensors", b'\\"image_size\\": 288', b'\\"image_size\\": 384', tmp_path / "a.safetensors"
    )
    with pytest.raises(WeightsError, match="its header is not the one that was saved"):
        saved_config(path)


def test_a_part_that_is_marked_as_a_folder_is_refused(files: Path, tmp_path: Path) -> None:
    """torch takes it for read, and gives a tensor of whatever was in memory."""
    path = tmp_path / "a.ckpt"
    with zipfile.ZipFile(files / "run.ckpt") as source, zipfile.ZipFile(path, "w") as target:
        for part in source.infolist():
            content = source.read(part)
            if part.filename.endswith("data/0"):
                part.external_attr |= 0x10
            target.writestr(part, content)
    with pytest.raises(WeightsError, match=r"its part 'archive/data/0' is marked as a folder"):
        read_checkpoint(path)


# Once, and only where there are sums ----------------------------------------------------------------------


def test_a_file_is_checked_once_and_again_after_a_change(
    files: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    checked: list[Path] = []
    check = integrity._check_archive

    def noted(path: Path) -> None:
        checked.append(path)
        check(path)

    monkeypatch.setattr(integrity, "_check_archive", noted)
    path = tmp_path / "a.ckpt"
    path.write_bytes((files / "run.ckpt").read_bytes())
    for read in (read_checkpoint, read_state_dict, saved_config, AtomicCheckpointIO().load_checkpoint):
        read(path)
    assert checked == [path]
    with_changed(files / "run.ckpt", values(0.5, 1.5), values(0.5, 2.5), tmp_path / "b.ckpt").replace(path)
    with pytest.raises(WeightsError, match=r"exp_avg"):
        read_checkpoint(path)
    assert checked == [path, path]


def test_files_without_sums_load_as_ever(tmp_path: Path) -> None:
    """What others wrote: by torch without its sums, before its archives, by the safetensors library."""
    state = meter_state()
    torch.serialization.set_crc32_options(False)
    try:
        torch.save(state, tmp_path / "a.ckpt")
    finally:
        torch.serialization.set_crc32_options(True)
    with zipfile.ZipFile(tmp_path / "a.ckpt") as archive:
        assert {part.CRC for part in archive.infolist()} == {0}
    torch.save(state, tmp_path / "b.pt", _use_new_zipfile_serialization=False)
    untied = {name: t.clone().contiguous() for name, t in state.items()}
    save_file(untied, tmp_path / "c.safetensors", metadata={"format": "pt"})
    for name in ("a.ckpt", "b.pt", "c.safetensors"):
        assert same(read_state_dict(tmp_path / name), state)


def test_an_export_loads_with_the_library_alone(files: Path) -> None:
    from safetensors.torch import load_file

    student = {name: t for name, t in CONTENT["state_dict"].items() if not name.startswith("epic.")}
    assert same(load_file(files / "student.safetensors"), student)


def test_every_save_of_ours_has_sums(files: Path) -> None:
    for name in ("run.ckpt", "student.ckpt"):
        with zipfile.ZipFile(files / name) as archive:
            assert all(part.CRC for part in archive.infolist() if part.file_size)
    assert not re.search("vlp.crc32", str(read_metadata(files / "student.safetensors")))
