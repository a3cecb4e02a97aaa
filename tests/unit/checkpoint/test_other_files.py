"""Files that are no weights, by mistake or by malice: one line in our own words, soon, and nothing in them is run."""

from __future__ import annotations

import io
import os
import pickle
import resource
import socket
import struct
import time
import zipfile
from argparse import Namespace
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from tests.unit.checkpoint.files import Command
from vlp.checkpoint.__main__ import main
from vlp.checkpoint.errors import WeightsError
from vlp.checkpoint.weights import read_checkpoint, read_metadata, read_state_dict, saved_config

STATE = {"w": torch.randn(50, 50)}
WHAT_TORCH_ADVISES = ("weights_only", "add_safe_globals", "untrusted", "trust the source")


class Call:
    """Unpickling this calls ``function``."""

    def __init__(self, function: Any, *arguments: Any) -> None:
        self.function, self.arguments = function, arguments

    def __reduce__(self) -> Any:
        return self.function, self.arguments


def text(path: Path) -> None:
    path.write_text("These are the weights:\n0.1 0.2 0.3 – more to come\n" * 40)


def lfs_pointer(path: Path) -> None:
    path.write_text("version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 1234\n")


def web_page(path: Path) -> None:
    path.write_text("\n<!DOCTYPE html><html><title>Sign in</title></html>")


def zeros(path: Path) -> None:
    path.write_bytes(bytes(10_000))


def noise(path: Path) -> None:
    path.write_bytes(bytes(range(128, 256)) * 20)


def image(path: Path) -> None:
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + bytes(100))


def gzipped(path: Path) -> None:
    path.write_bytes(b"\x1f\x8b\x08" + bytes(100))


def empty(path: Path) -> None:
    path.touch()


def folder(path: Path) -> None:
    path.mkdir()


def named_pipe(path: Path) -> None:
    os.mkfifo(path)


def device(path: Path) -> None:
    path.symlink_to("/dev/zero")


def null(path: Path) -> None:
    path.symlink_to("/dev/null")


def unix_socket(path: Path) -> None:
    here = os.getcwd()
    os.chdir(path.parent)  # a socket's name is short
    try:
        socket.socket(socket.AF_UNIX).bind(path.name)
    finally:
        os.chdir(here)


def loop(path: Path) -> None:
    path.symlink_to(path)


def cut(path: Path) -> None:
    torch.save({"state_dict": STATE}, path)
    path.write_bytes(path.read_bytes()[:5000])


def cut_old(path: Path) -> None:
    torch.save({"state_dict": STATE}, path, _use_new_zipfile_serialization=False)
    path.write_bytes(path.read_bytes()[:5000])


def other_zip(path: Path) -> None:
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("letter.txt", "Dear reader")


def bomb(path: Path) -> None:
    """300 MB of zeros in 300 kB."""
    archive = zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=1)
    with archive, archive.open("a/data.pkl", "w") as part:
        for _ in range(300):
            part.write(bytes(10**6))


def claims_terabytes(path: Path) -> None:
    """The directory of the archive says so."""
    torch.save({"state_dict": STATE}, path)
    whole = bytearray(path.read_bytes())
    place = whole.index(b"PK\x01\x02")
    while place >= 0:
        whole[place + 24 : place + 28] = struct.pack("<I", 0xFFFFFFF0)
        place = whole.find(b"PK\x01\x02", place + 4)
    path.write_bytes(whole)


def allocates(path: Path) -> None:
    torch.save({"state_dict": STATE, "x": Call(torch.Tensor, 10**12)}, path)


def allocates_bytes(path: Path) -> None:
    torch.save({"state_dict": STATE, "x": Call(bytearray, 10**12)}, path)


def allocates_old(path: Path) -> None:
    torch.save({"x": Call(torch.Tensor, 10**12)}, path, _use_new_zipfile_serialization=False)


def says_more_numbers_than_it_has(path: Path) -> None:
    torch.save({"w": torch.zeros(100)}, path)
    with zipfile.ZipFile(path) as source:
        parts = {part.filename: source.read(part) for part in source.infolist()}
    with zipfile.ZipFile(path, "w") as target:
        for name, content in parts.items():
            target.writestr(name, content.replace(b"Kd", b"J" + struct.pack("<i", 10**9)))


def unfolds(path: Path) -> None:
    """A hundred lists that hold the one before twice; a walk through the last takes 2^100 steps."""
    values: list[Any] = []
    for _ in range(100):
        values = [values, values]
    torch.save({"state_dict": STATE, "hyper_parameters": {"config": {"vit": values}}}, path)


def unfolds_in_objects(path: Path) -> None:
    values: Any = []
    for _ in range(100):
        values = Namespace(a=values, b=values)
    torch.save({"state_dict": STATE, "hyper_parameters": values}, path)


# {t: 1} with t = (s, s), s = (r, r) and so on, sixty times: its hash takes 2^60 steps.
ENDLESS_KEY = b"\x80\x02})" + b"".join(b"q%ch%c\x86" % (i, i) for i in range(60)) + b"K\x01s."


def endless_key(path: Path) -> None:
    torch.save({"w": torch.zeros(2)}, path)
    with zipfile.ZipFile(path) as source:
        parts = {part.filename: source.read(part) for part in source.infolist()}
    with zipfile.ZipFile(path, "w") as target:
        for name, content in parts.items():
            target.writestr(name, ENDLESS_KEY if name.endswith("data.pkl") else content)


def endless_key_and_noise(path: Path) -> None:
    """What comes after the key must not hide it."""
    endless_key(path)
    with zipfile.ZipFile(path) as source:
        parts = {part.filename: source.read(part) for part in source.infolist()}
    with zipfile.ZipFile(path, "w") as target:
        for name, content in parts.items():
            target.writestr(name, ENDLESS_KEY[:-1] + b"\xff" if name.endswith("data.pkl") else content)


def endless_key_old(path: Path) -> None:
    torch.save({"w": torch.zeros(2)}, path, _use_new_zipfile_serialization=False)
    content = io.BytesIO(path.read_bytes())
    for _ in range(3):
        pickle.load(content)  # of our own: number, version, system
    path.write_bytes(content.getvalue()[: content.tell()] + ENDLESS_KEY)


def holds_itself(path: Path) -> None:
    values: list[Any] = []
    values.append(values)
    torch.save({"state_dict": STATE, "x": values}, path)


def plain_pickle(path: Path) -> None:
    path.write_bytes(pickle.dumps({"state_dict": {"w": [0.1, 0.2]}}))


def command(path: Path) -> None:
    path.write_bytes(pickle.dumps({"w": Command(f"touch {path.parent / 'executed'}")}))


def old_command(path: Path) -> None:
    path.write_bytes(pickle.dumps({"w": Command(f"touch {path.parent / 'executed'}")}, protocol=2))


def command_in_archive(path: Path) -> None:
    torch.save({"w": Command(f"touch {path.parent / 'executed'}")}, path)


def not_a_pickle(path: Path) -> None:
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("a/data.pkl", b"(((((((R.")
        archive.writestr("a/version", b"3\n")


def safetensors(path: Path) -> None:
    save_file(STATE, path)


NO_CHECKPOINT = "not a checkpoint; expected a file of torch.save (.ckpt, .pt, .pth) or a .safetensors file"
BROKEN = "truncated, damaged or not a checkpoint of torch.save"
NO_PLAIN_ONE = "tensor 'w' is sparse, quantized, complex or without values; expected a plain one"
SPECIAL = "is a pipe, a socket or a device, expected a checkpoint file"
FILES: dict[Callable[[Path], None], str] = {
    text: f"is a text file, {NO_CHECKPOINT}",
    lfs_pointer: f"is a Git LFS pointer (git lfs pull fetches the file itself), {NO_CHECKPOINT}",
    web_page: f"is a web page (download the file itself), {NO_CHECKPOINT}",
    zeros: f"is zeros alone (never written, or cut off by a crash), {NO_CHECKPOINT}",
    noise: f"is no known form of weights, {NO_CHECKPOINT}",
    image: f"is an image, {NO_CHECKPOINT}",
    gzipped: f"is compressed (unpack it first), {NO_CHECKPOINT}",
    empty: "is empty (0 bytes)",
    folder: "is a folder, expected a checkpoint file",
    named_pipe: SPECIAL,
    device: SPECIAL,
    null: SPECIAL,
    unix_socket: SPECIAL,
    loop: "no such file",
    cut: BROKEN,
    cut_old: BROKEN,
    other_zip: BROKEN,
    bomb: "300,000,000, as a zip bomb does and no checkpoint; not read",
    claims_terabytes: "as a zip bomb does and no checkpoint; not read",
    allocates: BROKEN,
    allocates_bytes: BROKEN,
    allocates_old: BROKEN,
    says_more_numbers_than_it_has: BROKEN,
    unfolds: "holds nested lists without end, as no checkpoint does; not read",
    endless_key: "holds nested lists without end, as no checkpoint does; not read",
    endless_key_and_noise: BROKEN,
    endless_key_old: "holds nested lists without end, as no checkpoint does; not read",
    holds_itself: "holds nested lists without end, as no checkpoint does; not read",
    plain_pickle: f"is a plain pickle, which is never unpickled, {NO_CHECKPOINT}",
    command: "wants to call posix.system, as a malicious file does; not loaded, nothing was run",
    old_command: "wants to call posix.system, as a malicious file does; not loaded, nothing was run",
    command_in_archive: "wants to call posix.system, as a malicious file does; not loaded, nothing was run",
    not_a_pickle: BROKEN,
    safetensors: f"is a .safetensors file under another suffix, {NO_CHECKPOINT}",
}


@pytest.fixture
def soon_and_small() -> Any:
    """At most three seconds and 200 MB."""
    began, before = time.monotonic(), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    yield
    assert time.monotonic() - began < 3 and resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 200_000


@pytest.mark.parametrize("make", FILES, ids=lambda make: make.__name__)
def test_one_line_in_our_own_words(
    make: Callable[[Path], None], tmp_path: Path, capsys: pytest.CaptureFixture[str], soon_and_small: None
) -> None:
    path = tmp_path / "file.ckpt"
    make(path)
    for read in (read_state_dict, read_checkpoint, saved_config):
        with pytest.raises(WeightsError) as refusal:
            read(path)
        message = str(refusal.value)
        assert message.startswith(f"{path}: ") and FILES[make] in message and "\n" not in message
        assert not any(word in message for word in WHAT_TORCH_ADVISES)
    for options in ([], ["--trust"]):
        assert main(["convert", str(path), str(tmp_path / "out.ckpt"), *options]) == 1
        (line,) = capsys.readouterr().err.splitlines()
        assert line.startswith(f"error: {path}: ")
    assert main(["inspect", str(path)]) == 1
    printed = capsys.readouterr()
    assert FILES[make] in printed.out + printed.err
    assert not any(word in printed.out + printed.err for word in WHAT_TORCH_ADVISES)
    assert not {"executed", "out.ckpt"} & set(os.listdir(tmp_path))


def test_objects_that_unfold_without_end_are_refused_with_trust_too(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], soon_and_small: None
) -> None:
    path = tmp_path / "file.ckpt"
    unfolds_in_objects(path)
    for command in (["inspect", str(path)], ["convert", str(path), str(tmp_path / "out.ckpt"), "--trust"]):
        assert main(command) == 1
        printed = capsys.readouterr()
        assert "holds nested lists without end, as no checkpoint does; not read" in printed.out + printed.err


@pytest.mark.parametrize(
    ("tensor", "message"),
    [
        (torch.zeros(1).expand(10**6, 10**6), "whose tensors have 4,000,000,000,000, as in no checkpoint; not read"),
        (torch.zeros(3).to_sparse(), NO_PLAIN_ONE),
        (torch.zeros(3, device="meta"), NO_PLAIN_ONE),
        (torch.zeros(3, dtype=torch.complex64), NO_PLAIN_ONE),
    ],
    ids=["repeated", "sparse", "meta", "complex"],
)
def test_tensors_that_no_model_has(
    tensor: torch.Tensor, message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], soon_and_small: None
) -> None:
    path = tmp_path / "file.ckpt"
    torch.save({"state_dict": {"w": tensor}}, path)
    with pytest.raises(WeightsError, match=message):
        read_state_dict(path)
    for command in (["inspect", str(path)], ["convert", str(path), str(tmp_path / "out.safetensors")]):
        assert main(command) == 1
        printed = capsys.readouterr()
        assert message in printed.out + printed.err


def test_a_tensor_whose_key_is_no_text(tmp_path: Path) -> None:
    torch.save({"model": {**STATE, 3: torch.zeros(2)}}, tmp_path / "file.ckpt")
    with pytest.raises(WeightsError, match=r"file\.ckpt: a tensor has the key 3, no text"):
        read_state_dict(tmp_path / "file.ckpt")


def test_complex_tensors_of_safetensors(tmp_path: Path) -> None:
    save_file({"w": torch.zeros(3, dtype=torch.complex64)}, tmp_path / "file.safetensors")
    with pytest.raises(WeightsError, match=NO_PLAIN_ONE):
        read_state_dict(tmp_path / "file.safetensors")


@pytest.mark.parametrize("make", [text, zeros, cut, plain_pickle, command, empty, folder, named_pipe, null, loop])
def test_the_same_under_the_suffix_of_safetensors(make: Callable[[Path], None], tmp_path: Path) -> None:
    path = tmp_path / "file.safetensors"
    make(path)
    for read in (read_state_dict, read_metadata, saved_config):
        with pytest.raises(WeightsError) as refusal:
            read(path)
        message = str(refusal.value)
        assert message.startswith(f"{path}: ") and "\n" not in message
        expected = FILES[make] if make in (empty, folder, named_pipe, null, loop) else "not a .safetensors file"
        assert expected in message
