"""Read a checkpoint that holds pickled Python objects without importing or running anything that it names.

Old Lightning files hold ``argparse.Namespace``, ``AttributeDict``, sacred's containers, or a callback's class as a key.
Every such class is read as an inert stand-in that keeps what the pickle gave it; :func:`plain` turns that into data.
"""

from __future__ import annotations

import pickle
import zipfile
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from torch import Tensor
from torch._weights_only_unpickler import _get_allowed_globals

from vlp.checkpoint.weights import WeightsError, existing_file, is_torchscript

_PYTHON_2 = {"__builtin__": "builtins", "copy_reg": "copyreg"}  # the pickle protocol of torch.save names these
_DATA = (str, int, float, complex, bool, bytes, Tensor, torch.dtype, torch.Size, torch.device, type(None))


class Foreign(dict):
    """Stands for an object of a class that was not imported: constructor arguments, items, elements and state."""

    name = ""
    arguments: tuple[Any, ...]
    elements: list[Any]
    state: Any

    def __new__(cls, *arguments: Any) -> Foreign:
        self = super().__new__(cls)
        self.arguments, self.elements, self.state = arguments, [], None
        return self

    def __init__(self, *_: Any) -> None:
        """Takes no items: the arguments need not be those of a dict."""

    def __setstate__(self, state: Any) -> None:
        self.state = state

    def append(self, element: Any) -> None:
        self.elements.append(element)

    def extend(self, elements: Any) -> None:
        self.elements.extend(elements)

    __hash__ = object.__hash__  # type: ignore[assignment]

    def data(self) -> Any:
        """What it held, by the ways in which pickled containers and plain objects keep it; its name if nothing."""
        if self or self.elements:
            return dict(self) or self.elements
        if isinstance(self.state, Mapping):
            return dict(self.state)
        if len(self.arguments) == 1 and isinstance(self.arguments[0], list | tuple | Mapping):
            return self.arguments[0]
        return self.name


def read_foreign(path: str | Path, mmap: bool = False) -> tuple[dict[str, Any], list[str]]:
    """A checkpoint dictionary with stand-ins for foreign objects, and the names of their classes.

    ``mmap`` as in :func:`vlp.checkpoint.weights.read_checkpoint`.

    Raises:
        WeightsError: no such file, not a checkpoint, or a TorchScript archive.
    """
    path = existing_file(path)
    if is_torchscript(path):
        raise WeightsError(f"{path}: is a TorchScript archive, which has no pickled Python objects")
    classes: dict[str, type[Foreign]] = {}
    allowed = _get_allowed_globals()  # the tensor builders that weights_only itself calls

    class Unpickler(pickle.Unpickler):
        def find_class(self, module: str, name: str) -> Any:
            full = f"{_PYTHON_2.get(module, module)}.{name}"
            if full in allowed:
                return allowed[full]
            if full not in classes:
                classes[full] = type("Foreign", (Foreign,), {"name": full})
            return classes[full]

    reader: Any = ModuleType("inert_pickle")
    reader.Unpickler = Unpickler
    reader.load = lambda handle, **arguments: Unpickler(handle, **arguments).load()
    mmap = mmap and zipfile.is_zipfile(path)
    try:
        content = torch.load(path, map_location="cpu", weights_only=False, pickle_module=reader, mmap=mmap)
    except Exception as error:  # a pickle can fail in any way
        raise WeightsError(f"{path}: truncated or not a checkpoint ({type(error).__name__}: {error})") from error
    if not isinstance(content, dict):
        raise WeightsError(f"{path}: holds a {type(content).__name__}, expected a dictionary of tensors")
    return content, sorted(classes)


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
    if isinstance(value, list | tuple | set):
        return type(value)(plain(item) for item in value)
    return str(value)
