"""Read tensors from files without running what is in them, and say which file it was."""

from __future__ import annotations

import hashlib
import json
import pickle
import re
import zipfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file
from torch import Tensor
from torch.serialization import get_unsafe_globals_in_checkpoint

# Where a checkpoint dictionary holds its tensors: Lightning's files, ALBEF's and X-VLM's.
STATE_KEYS = ("state_dict", "model")
# What a pickle names that wants to run something: modules without data types, and functions. Names what is refused
# anyway, so that the advice for honest files is not given for these.
_COMMAND_MODULES = ("os", "posix", "nt", "sys", "subprocess", "runpy", "importlib", "shutil", "socket", "ctypes")
_COMMANDS = tuple(f"builtins.{name}" for name in ("eval", "exec", "compile", "open", "getattr", "__import__"))


class WeightsError(RuntimeError):
    """A weights file that is missing, unreadable, unsafe or of another model; the message says what to do."""


def sha256_of_file(path: str | Path) -> str:
    """Hex SHA-256 of a file's bytes."""
    digest = hashlib.sha256()
    with open(path, "rb") as handle:
        while chunk := handle.read(1 << 20):
            digest.update(chunk)
    return digest.hexdigest()


def sha256_of_tensors(state: Mapping[str, Tensor]) -> str:
    """Hex SHA-256 of names, shapes and bytes in name order, for weights that came from a hub."""
    digest = hashlib.sha256()
    for name in sorted(state):
        tensor = state[name].detach().cpu().contiguous()
        digest.update(f"{name} {tuple(tensor.shape)} {tensor.dtype}".encode())
        digest.update(tensor.flatten().view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def existing_file(path: str | Path) -> Path:
    """``path``, if something can be read there.

    Raises:
        WeightsError: nothing there, a folder, or an empty file.
    """
    path = Path(path)
    if path.is_dir():
        raise WeightsError(f"{path}: is a folder, expected a checkpoint file")
    if not path.is_file():
        raise WeightsError(f"{path}: no such file")
    if path.stat().st_size == 0:
        raise WeightsError(f"{path}: is empty (0 bytes)")
    return path


def read_checkpoint(path: str | Path, mmap: bool = False) -> dict[str, Any]:
    """The whole checkpoint dictionary of a pickle-based file, loaded with ``weights_only``.

    ``mmap`` leaves the tensors on the disk until they are read: for a look at the rest.

    Raises:
        WeightsError: no such file, not a checkpoint, or it holds pickled Python objects.
    """
    path = existing_file(path)
    try:
        content = torch.load(path, map_location="cpu", weights_only=True, mmap=mmap and zipfile.is_zipfile(path))
    except pickle.UnpicklingError as error:
        raise WeightsError(_refusal(path, error)) from error
    except (OSError, EOFError, RuntimeError, zipfile.BadZipFile, ValueError, KeyError) as error:
        raise WeightsError(f"{path}: truncated or not a checkpoint ({_first_line(error)})") from error
    if not isinstance(content, dict):
        raise WeightsError(f"{path}: holds a {type(content).__name__}, expected a dictionary of tensors")
    return content


def _refusal(path: Path, error: pickle.UnpicklingError) -> str:
    """Why ``weights_only`` refused the file, and what to do."""
    named = re.findall(r"GLOBAL ([\w.]+)", str(error))  # torch leaves out "builtins."
    names = pickled_names(path) or sorted({name if "." in name else f"builtins.{name}" for name in named})
    if message := command_message(path, names):
        return message
    if names:
        return (
            f"{path}: holds pickled Python objects ({', '.join(names)}); not loaded. If you trust where it comes from: "
            f"python -m vlp.checkpoint convert {path} OUT.ckpt --trust, then give OUT.ckpt"
        )
    return f"{path}: truncated or not a checkpoint ({_first_line(error)})"


def pickled_names(path: str | Path) -> list[str]:
    """Python classes and functions that a checkpoint names besides tensors, found without unpickling it."""
    try:
        return sorted(get_unsafe_globals_in_checkpoint(path))
    except (pickle.UnpicklingError, ValueError, EOFError, RuntimeError):
        return []  # not written by today's torch.save, or not a checkpoint


def command_message(path: str | Path, names: Iterable[str]) -> str | None:
    """Why ``path`` is refused if one of the pickled ``names`` runs something instead of holding data, else None."""
    commands = [name for name in names if name.split(".")[0] in _COMMAND_MODULES or name in _COMMANDS]
    if not commands:
        return None
    return f"{path}: wants to call {', '.join(commands)}, as a malicious file does; not loaded, nothing was run"


def _first_line(error: BaseException) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]


def saved_config(path: str | Path) -> dict[str, Any]:
    """The resolved config that a run of ours stored in its checkpoint; empty for bare weights."""
    if Path(path).suffix == ".safetensors":
        config = read_metadata(path).get("config")
        return config if isinstance(config, dict) else {}
    if is_torchscript(existing_file(path)):
        return {}
    hyper_parameters = read_checkpoint(path, mmap=True).get("hyper_parameters")
    config = hyper_parameters.get("config") if isinstance(hyper_parameters, dict) else None
    return config if isinstance(config, dict) else {}


def read_metadata(path: str | Path) -> dict[str, Any]:
    """What stands beside a .safetensors file's tensors; ours (``vlp.checkpoint convert``): config, versions, source, ….

    Raises:
        WeightsError: no such file, or not a .safetensors file.
    """
    path = existing_file(path)
    try:
        with safe_open(path, framework="pt") as handle:
            metadata = handle.metadata() or {}
    except (SafetensorError, OSError) as error:
        raise WeightsError(f"{path}: truncated or not a .safetensors file ({_first_line(error)})") from error
    return {key: _parsed(value) for key, value in metadata.items()}


def _parsed(value: str) -> Any:
    """The format allows text alone; ours is JSON, another tool's may be anything."""
    try:
        return json.loads(value)
    except ValueError:
        return value


def read_state_dict(path: str | Path, mmap: bool = False) -> dict[str, Tensor]:
    """Tensors by name from .safetensors, .ckpt/.pt/.pth (bare, or under state_dict/model) or a TorchScript archive.

    ``mmap`` as in :func:`read_checkpoint`; .safetensors files are always mapped.

    Raises:
        WeightsError: as :func:`read_checkpoint`; or no tensors inside.
    """
    path = existing_file(path)
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        if is_torchscript(path):
            return dict(torch.jit.load(str(path), map_location="cpu").state_dict())
    except (SafetensorError, OSError, RuntimeError) as error:
        raise WeightsError(f"{path}: truncated or not a weights file ({_first_line(error)})") from error
    return tensors_of(path, read_checkpoint(path, mmap))


def tensors_of(path: str | Path, content: Mapping[str, Any]) -> dict[str, Tensor]:
    """The tensors by name of a checkpoint dictionary that was read from ``path``.

    Raises:
        WeightsError: there are none.
    """
    key = state_key(content)
    state = {name: t for name, t in (content[key] if key else content).items() if isinstance(t, Tensor)}
    if not state:
        raise WeightsError(f"{path}: holds no tensors (its keys are {sorted(map(str, content))[:8]})")
    return state


def state_key(content: Mapping[str, Any]) -> str | None:
    """Under which key a checkpoint dictionary holds its tensors; None for a bare state dict."""
    return next((key for key in STATE_KEYS if isinstance(content.get(key), dict)), None)


def is_torchscript(path: Path) -> bool:
    if not zipfile.is_zipfile(path):
        return False
    with zipfile.ZipFile(path) as archive:
        return any(name.endswith("/constants.pkl") for name in archive.namelist())


def check_shapes(path: str | Path, loaded: Mapping[str, Tensor], expected: Mapping[str, Tensor], hint: str) -> None:
    """Refuse tensors whose shapes differ from the model's, naming the first ones.

    Raises:
        WeightsError: with ``hint`` saying which config keys decide the shapes.
    """
    wrong = [
        f"{name}: {tuple(value.shape)} in the file, {tuple(expected[name].shape)} in the model"
        for name, value in loaded.items()
        if name in expected and value.shape != expected[name].shape
    ]
    if wrong:
        more = f" (and {len(wrong) - 3} more)" if len(wrong) > 3 else ""
        raise WeightsError(f"{path} does not fit the model: {'; '.join(wrong[:3])}{more}. {hint}")
