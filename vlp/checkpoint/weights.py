"""Read tensors from files without running what is in them, and say which file it was."""

from __future__ import annotations

import hashlib
import json
import pickle
import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import load_file
from torch import Tensor
from torch.serialization import get_unsafe_globals_in_checkpoint

from vlp.checkpoint.errors import WeightsError
from vlp.checkpoint.forms import command_message, is_safetensors, is_torchscript, is_zip, weights_file
from vlp.checkpoint.integrity import most_unpacked, refuse_endless, unreadable, whole_file
from vlp.checkpoint.safetensors_sums import SUMS
from vlp.checkpoint.torchscript import torchscript_tensors
from vlp.files import regular, sha256_of_bytes

# Where a checkpoint dictionary holds its tensors: Lightning's files, ALBEF's and X-VLM's.
STATE_KEYS = ("state_dict", "model")
# In a checkpoint of official form: what an added objective has beside ``model``, which official code loads strictly.
ADDED_KEY = "added_model"
# The same in an exported folder, beside its weights.
ADDED_FILE = "epic.safetensors"


def sha256_of_file(path: str | Path) -> str:
    """Hex SHA-256 of a file's bytes; of an exported folder, of its weights."""
    return sha256_of_bytes(weights_file(path))


def sha256_of_tensors(state: Mapping[str, Tensor]) -> str:
    """Hex SHA-256 of names, shapes and bytes in name order, for weights that came from a hub."""
    digest = hashlib.sha256()
    for name in sorted(state):
        tensor = state[name].detach().cpu().contiguous()
        digest.update(f"{name} {tuple(tensor.shape)} {tensor.dtype}".encode())
        digest.update(tensor.flatten().view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def read_checkpoint(path: str | Path, mmap: bool = False) -> dict[str, Any]:
    """The whole checkpoint dictionary of a pickle-based file, loaded with ``weights_only``.

    ``mmap`` leaves the tensors on the disk until they are read: for a look at the rest.

    Raises:
        WeightsError: no such file, not a checkpoint, a damaged one, or it holds pickled Python objects.
    """
    path = whole_file(path)
    if is_safetensors(path):
        raise WeightsError(f"{path}: holds weights alone, not the state of a run; expected a .ckpt, .pt or .pth file")
    try:
        content = torch.load(path, map_location="cpu", weights_only=True, mmap=mmap and is_zip(path))
    except pickle.UnpicklingError as error:
        raise WeightsError(_refusal(path, error)) from error
    except Exception as error:  # a pickle can fail in any way
        raise WeightsError(unreadable(path)) from error
    refuse_endless(path, content)
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
    return unreadable(path)


def pickled_names(path: str | Path) -> list[str]:
    """Python classes and functions that a checkpoint names besides tensors, found without unpickling it."""
    try:
        return sorted(get_unsafe_globals_in_checkpoint(regular(path)))
    except (pickle.UnpicklingError, ValueError, EOFError, RuntimeError, AssertionError):
        return []  # not written by today's torch.save, or not a checkpoint


def saved_config(path: str | Path) -> dict[str, Any]:
    """The resolved config that a run of ours stored in its checkpoint; empty for bare weights."""
    path = whole_file(path)
    if is_safetensors(path):
        config = read_metadata(path).get("config")
        return config if isinstance(config, dict) else {}
    if is_torchscript(path):
        return {}
    return config_of(read_checkpoint(path, mmap=True)) or {}


def config_of(content: Mapping[str, Any]) -> dict[str, Any] | None:
    """The config in a checkpoint dictionary: among Lightning's hyper-parameters, or where ALBEF and X-VLM have it."""
    parameters = content.get("hyper_parameters")
    config = parameters.get("config") if isinstance(parameters, dict) else content.get("config")
    return config if isinstance(config, dict) else None


def read_metadata(path: str | Path) -> dict[str, Any]:
    """What stands beside a .safetensors file's tensors; ours (``vlp.checkpoint convert``): config, versions, source, ….

    Raises:
        WeightsError: no such file, not a .safetensors file, or a damaged one.
    """
    path = whole_file(path)
    with safe_open(path, framework="pt") as handle:
        metadata = handle.metadata() or {}
    return {key: _parsed(value) for key, value in metadata.items() if key != SUMS}


def _parsed(value: str) -> Any:
    """The format allows text alone; ours is JSON, another tool's may be anything."""
    try:
        return json.loads(value)
    except (ValueError, RecursionError):
        return value


def read_state_dict(path: str | Path, mmap: bool = False) -> dict[str, Tensor]:
    """Tensors by name from .safetensors, .ckpt/.pt/.pth (bare, or under state_dict/model) or a TorchScript archive.

    Of an exported folder they are those of its weights and of what an added objective has beside them.
    ``mmap`` as in :func:`read_checkpoint`; .safetensors files are always mapped.

    Raises:
        WeightsError: as :func:`read_checkpoint`; or no tensors inside.
    """
    added = Path(path, ADDED_FILE)
    path = whole_file(path)
    if is_safetensors(path):
        return tensors_of(path, {**load_file(path), **(load_file(whole_file(added)) if added.is_file() else {})})
    if is_torchscript(path):
        return tensors_of(path, torchscript_tensors(path))
    return tensors_of(path, read_checkpoint(path, mmap))


def tensors_of(path: str | Path, content: Mapping[str, Any]) -> dict[str, Tensor]:
    """The tensors by name of a checkpoint dictionary that was read from ``path``.

    Raises:
        WeightsError: there are none, or some that no model has.
    """
    key = state_key(content)
    added = content.get(ADDED_KEY)
    named = {**(content[key] if key else content), **(added if isinstance(added, dict) else {})}
    state = {name: t for name, t in named.items() if isinstance(t, Tensor)}
    if odd := [name for name in state if not isinstance(name, str)]:
        raise WeightsError(f"{path}: a tensor has the key {odd[0]!r}, no text; give a file whose tensors have names")
    if not state:
        raise WeightsError(f"{path}: holds no tensors (its keys are {sorted(map(str, content))[:8]})")
    for name, tensor in state.items():
        # A complex one would lose its imaginary part.
        if tensor.layout != torch.strided or tensor.is_quantized or tensor.is_complex() or tensor.device.type != "cpu":
            raise WeightsError(
                f"{path}: tensor {name!r} is sparse, quantized, complex or without values; expected a plain one"
            )
    size, repeated = Path(path).stat().st_size, sum(t.numel() * t.element_size() for t in state.values())
    if repeated > most_unpacked(size):  # a few values under strides of 0
        raise WeightsError(f"{path}: {size:,} bytes whose tensors have {repeated:,}, as in no checkpoint; not read")
    return state


def state_key(content: Mapping[str, Any]) -> str | None:
    """Under which key a checkpoint dictionary holds its tensors; None for a bare state dict."""
    return next((key for key in STATE_KEYS if isinstance(content.get(key), dict)), None)


def check_tensors(path: str | Path, loaded: Mapping[str, Tensor], expected: Mapping[str, Tensor], hint: str) -> None:
    """Refuse tensors whose shapes differ from the model's, or that hold NaN or infinity where the model has none.

    Tensors that the model does not take are not looked at.

    Raises:
        WeightsError: naming the first ones, with ``hint`` saying which config keys decide the shapes.
    """
    wrong = [
        f"{name}: {tuple(value.shape)} in the file, {tuple(expected[name].shape)} in the model"
        for name, value in loaded.items()
        if name in expected and value.shape != expected[name].shape
    ]
    if wrong:
        more = f" (and {len(wrong) - 3} more)" if len(wrong) > 3 else ""
        raise WeightsError(f"{path} does not fit the model: {'; '.join(wrong[:3])}{more}. {hint}")
    # A mask that the model has itself may be infinite; and what is finite in the file may be none in the model's type.
    taken = {name: value for name, value in loaded.items() if name in expected and _is_finite(expected[name])}
    check_finite(path, ((name, value.to(expected[name].dtype)) for name, value in taken.items()))


def check_finite(path: str | Path, named: Iterable[tuple[str, Tensor]]) -> None:
    """Refuse tensors with a NaN or infinite value, which would end the run some steps later and far from the file.

    Raises:
        WeightsError: naming the first ones.
    """
    if wrong := [name for name, tensor in named if not _is_finite(tensor)]:
        more = f" and {len(wrong) - 3} more" if len(wrong) > 3 else ""
        raise WeightsError(
            f"{path}: NaN or infinite values in {', '.join(wrong[:3])}{more}; give an earlier checkpoint, or a file "
            "that is whole"
        )


def _is_finite(tensor: Tensor) -> bool:
    # One pass without a copy: isfinite().all() took 140 times as long on float32 tensors, 14 times on float16.
    return not (tensor.is_floating_point() and tensor.numel()) or all(end.isfinite() for end in tensor.aminmax())


def named_tensors(value: Any, name: str) -> Iterator[tuple[str, Tensor]]:
    """The tensors in nested dictionaries and lists, such as an optimiser's state, by the keys that lead to them."""
    if isinstance(value, Tensor):
        yield name, value
    elif isinstance(value, Mapping | list | tuple):
        for key, inner in value.items() if isinstance(value, Mapping) else enumerate(value):
            yield from named_tensors(inner, f"{name}.{key}")
