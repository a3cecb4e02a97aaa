"""Read tensors from files without running what is in them, and say which file it was."""

from __future__ import annotations

import hashlib
import pickle
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor


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


def read_checkpoint(path: str | Path, mmap: bool = False) -> dict[str, object]:
    """The whole checkpoint dictionary of a pickle-based file, loaded with ``weights_only``.

    ``mmap`` leaves the tensors on disk until they are used.

    Raises:
        WeightsError: no such file, not a checkpoint, or it holds pickled Python objects.
    """
    path = Path(path)
    if not path.is_file():
        raise WeightsError(f"{path}: no such file")
    try:
        content = torch.load(path, map_location="cpu", weights_only=True, mmap=mmap)
    except pickle.UnpicklingError as error:
        raise WeightsError(
            f"{path}: holds pickled Python objects or is no checkpoint; not loaded ({str(error).splitlines()[0]}). "
            "Save its 'state_dict' alone, in a trusted environment, and give that file"
        ) from error
    except (OSError, EOFError, RuntimeError, zipfile.BadZipFile, ValueError) as error:
        raise WeightsError(f"{path}: truncated or not a checkpoint ({error})") from error
    if not isinstance(content, dict):
        raise WeightsError(f"{path}: holds a {type(content).__name__}, expected a dictionary of tensors")
    return content


def saved_config(path: str | Path) -> dict[str, Any]:
    """The resolved config that a run of ours stored in its checkpoint; empty for bare weights."""
    if Path(path).suffix == ".safetensors":
        return {}
    hyper_parameters = read_checkpoint(path).get("hyper_parameters")
    config = hyper_parameters.get("config") if isinstance(hyper_parameters, dict) else None
    return config if isinstance(config, dict) else {}


def read_state_dict(path: str | Path) -> dict[str, Tensor]:
    """Tensors by name from .safetensors, .ckpt/.pt/.pth (bare, or under state_dict/model) or a TorchScript archive.

    Raises:
        WeightsError: as :func:`read_checkpoint`; or no tensors inside.
    """
    path = Path(path)
    if not path.is_file():
        raise WeightsError(f"{path}: no such file")
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        if _is_torchscript(path):
            return dict(torch.jit.load(str(path), map_location="cpu").state_dict())
    except (SafetensorError, RuntimeError) as error:
        raise WeightsError(f"{path}: truncated or not a weights file ({str(error).splitlines()[0]})") from error
    content = read_checkpoint(path)
    for key in ("state_dict", "model"):
        if isinstance(content.get(key), dict):
            content = content[key]  # type: ignore[assignment]
            break
    state = {name: value for name, value in content.items() if isinstance(value, Tensor)}
    if not state:
        raise WeightsError(f"{path}: holds no tensors (its keys are {sorted(map(str, content))[:8]})")
    return state


def _is_torchscript(path: Path) -> bool:
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
