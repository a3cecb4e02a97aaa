"""Read the tensors of a TorchScript archive, such as CLIP's own files, without compiling or running its code.

``torch.jit.load`` runs a module's ``__setstate__``, which may write files.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.serialization import _load, _open_zipfile_reader

from vlp.checkpoint.errors import WeightsError
from vlp.checkpoint.foreign import inert_reader
from vlp.checkpoint.inert import Foreign
from vlp.checkpoint.integrity import refuse_endless, unreadable
from vlp.files import regular


def torchscript_tensors(path: Path) -> dict[str, Tensor]:
    """Parameters, buffers and other tensors of the archived module by their dotted names.

    Raises:
        WeightsError: it is not a module's archive.
    """
    reader, _ = inert_reader()
    try:
        with open(regular(path), "rb") as handle, _open_zipfile_reader(handle) as archive:
            module = _load(archive, torch.device("cpu"), reader)
    except Exception as error:  # a pickle can fail in any way
        raise WeightsError(unreadable(path)) from error
    refuse_endless(path, module)
    return dict(_tensors(module, ""))


def _tensors(module: Any, prefix: str) -> Iterator[tuple[str, Tensor]]:
    """An archived module is its class's name and a dictionary of its attributes."""
    attributes = module.state if isinstance(module, Foreign) else None
    for name, value in attributes.items() if isinstance(attributes, dict) else ():
        if isinstance(value, Tensor):
            yield f"{prefix}{name}", value.detach()
        else:
            yield from _tensors(value, f"{prefix}{name}.")
