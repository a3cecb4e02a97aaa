"""Check sums in .safetensors files of ours, and the same bytes for the same content.

The format has no check sums. Ours stand in its metadata: a CRC-32 of every tensor, and one of the header, which holds
names, types, shapes and the other metadata.
"""

from __future__ import annotations

import json
import mmap
import struct
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from vlp.checkpoint.errors import WeightsError
from vlp.files import regular

SUMS = "vlp.crc32"  # the key in the metadata


def safetensors_bytes(state: Mapping[str, Tensor], metadata: Mapping[str, str]) -> list[bytes | memoryview]:
    """A .safetensors file with check sums, in pieces; the library alone would order the metadata at random."""
    # Tied tensors become equal ones: the format has no sharing.
    whole = {name: t.detach().clone(memory_format=torch.contiguous_format) for name, t in state.items()}
    header, data = _parts(memoryview(save(whole, dict(metadata))))
    sums = _tensor_sums(header, data)
    header["__metadata__"][SUMS] = json.dumps({"tensors": sums, "header": _header_sum(header, sums)})
    text = json.dumps(header, sort_keys=True).encode()
    text += b" " * (-len(text) % 8)  # tensors begin at a multiple of 8 bytes
    return [struct.pack("<Q", len(text)), text, data]


def check_safetensors(path: Path) -> None:
    """Refuse a file that cannot be read, or whose check sums, if it has any, do not fit.

    Raises:
        WeightsError: naming the tensor that is damaged.
    """
    try:
        with safe_open(regular(path), framework="pt") as handle:
            said = (handle.metadata() or {}).get(SUMS)
    except (SafetensorError, OSError) as error:
        raise WeightsError(f"{path}: truncated, damaged or not a .safetensors file") from error
    if said is None:
        return
    with (
        open(path, "rb") as file,
        mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as mapped,
        memoryview(mapped) as content,
    ):
        wrong = _wrong_part(content, said)
    if wrong:
        raise WeightsError(
            f"{path}: is damaged, {wrong} is not the one that was saved (check sum); restore it from a copy"
        )


def _wrong_part(content: memoryview, said: str) -> str | None:
    """The first part whose sum is not ``said``."""
    header, data = _parts(content)
    with data:
        found = _tensor_sums(header, data)
    try:
        sums = json.loads(said)
        if sums["header"] != _header_sum(header, sums["tensors"]):
            return "its header"
        return next((f"tensor {name}" for name in found if sums["tensors"][name] != found[name]), None)
    except (ValueError, KeyError, TypeError, RecursionError):
        return "its header"


def _parts(content: memoryview) -> tuple[dict[str, Any], memoryview]:
    """Header and data of a file that the library has accepted."""
    (length,) = struct.unpack("<Q", content[:8])
    return json.loads(bytes(content[8 : 8 + length])), content[8 + length :]


def _tensor_sums(header: Mapping[str, Any], data: memoryview) -> dict[str, int]:
    places = {name: slice(*about["data_offsets"]) for name, about in header.items() if name != "__metadata__"}
    return {name: zlib.crc32(data[place]) for name, place in sorted(places.items())}


def _header_sum(header: Mapping[str, Any], sums: Mapping[str, int]) -> int:
    """Of all that the header says, the sums of the tensors included."""
    metadata = {key: value for key, value in header["__metadata__"].items() if key != SUMS}
    return zlib.crc32(json.dumps([{**header, "__metadata__": metadata}, sums], sort_keys=True).encode())
