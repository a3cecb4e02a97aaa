"""Read a checkpoint that holds pickled Python objects without importing or running anything that it names.

Old Lightning files hold ``argparse.Namespace``, ``AttributeDict``, sacred's containers, or a callback's class as a key.
Every such class is read as an inert stand-in that keeps what the pickle gave it; :func:`plain` turns that into data.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from torch import Tensor
from torch._weights_only_unpickler import _get_allowed_globals

from vlp.checkpoint.errors import WeightsError
from vlp.checkpoint.forms import is_torchscript, is_zip
from vlp.checkpoint.inert import Foreign, inert_unpickler
from vlp.checkpoint.integrity import refuse_endless, unreadable, whole_file

_DATA = (str, int, float, complex, bool, bytes, Tensor, torch.dtype, torch.Size, torch.device, type(None))


def read_foreign(path: str | Path, mmap: bool = False) -> tuple[dict[str, Any], list[str]]:
    """A checkpoint dictionary with stand-ins for foreign objects, and the names of their classes.

    ``mmap`` as in :func:`vlp.checkpoint.weights.read_checkpoint`.

    Raises:
        WeightsError: no such file, not a checkpoint, a damaged one, or a TorchScript archive.
    """
    path = whole_file(path)
    if is_torchscript(path):
        raise WeightsError(f"{path}: is a TorchScript archive, which has no pickled Python objects")
    reader, classes = inert_reader()
    mmap = mmap and is_zip(path)
    try:
        content = torch.load(path, map_location="cpu", weights_only=False, pickle_module=reader, mmap=mmap)
    except Exception as error:  # a pickle can fail in any way
        raise WeightsError(unreadable(path)) from error
    refuse_endless(path, content)
    if not isinstance(content, dict):
        raise WeightsError(f"{path}: holds a {type(content).__name__}, expected a dictionary of tensors")
    return content, sorted(classes)


def inert_reader() -> tuple[Any, dict[str, type[Foreign]]]:
    """A pickle module for torch that makes tensors and stand-ins alone, and the stand-ins' classes by name so far."""
    classes: dict[str, type[Foreign]] = {}
    unpickler = inert_unpickler(_get_allowed_globals(), classes)  # the tensor builders that weights_only itself calls
    reader: Any = ModuleType("inert_pickle")
    reader.Unpickler = unpickler
    reader.load = lambda handle, **arguments: unpickler(handle, **arguments).load()
    return reader, classes


def plain(value: Any) -> Any:
    """``value`` with every foreign object replaced by the data that it held, or by its class's name."""
    if isinstance(value, Foreign):
        return plain(value.data())
    if isinstance(value, type) and issubclass(value, Foreign):
        return value.name
    if isinstance(value, Mapping):
        return {plain(key): plain(item) for key, item in value.items()}
    if isinstance(value, _DATA):  # before tuple: torch.Size is one
        return value
    if isinstance(value, list | tuple):
        return type(value)(plain(item) for item in value)
    if isinstance(value, set | frozenset):  # whose order changes from process to process
        return sorted((plain(item) for item in value), key=repr)
    return str(value)
