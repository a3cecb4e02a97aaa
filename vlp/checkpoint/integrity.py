"""Whether a weights file is what was written: no byte of it that is loaded may have changed.

torch writes a CRC-32 of every part into its archives, tensors and pickle alike, and does not look at it. A .safetensors
file has none; ours carry them in their metadata (:mod:`vlp.checkpoint.safetensors_sums`). Files without any, official
ones of old, are taken as they are.
"""

from __future__ import annotations

import functools
import io
import struct
import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, BinaryIO

from vlp.checkpoint.errors import WeightsError
from vlp.checkpoint.forms import existing_file, is_safetensors, is_zip, refuse_other_forms
from vlp.checkpoint.inert import Foreign, deepest_tuple, places_of_storage
from vlp.checkpoint.safetensors_sums import check_safetensors
from vlp.files import regular

# An archive of torch's holds its tensors as they are. Only the code of TorchScript is packed, and small.
_MOST_UNPACKED, _ALWAYS_ALLOWED = 20, 2**28
_MOST_VALUES = 10**8  # of lists in a checkpoint, each counted as often as it is reached
_MOST_TUPLES = 20  # in each other; a checkpoint has two or three
_OLD_PICKLES = 4  # before its tensors, torch's old form has the magic number, the version, the system, the content
_FOLDER = 0x10  # of MS-DOS's file attributes
_ADVICE = "restore it from a copy"
# What the reading of a zip archive of any bytes can raise.
_BROKEN = (
    zipfile.BadZipFile,
    zlib.error,
    EOFError,
    struct.error,
    NotImplementedError,
    RuntimeError,
    ValueError,
    OSError,
)


def whole_file(path: str | Path) -> Path:
    """``path``, if it is a weights file and not damaged; reads it once in a process, unless it has changed.

    Raises:
        WeightsError: nothing to read there; or saying what the file looks like, or which tensor is damaged.
    """
    path = existing_file(path)
    about = path.stat()
    _check_once(path, (about.st_dev, about.st_ino, about.st_size, about.st_mtime_ns))
    return path


@functools.lru_cache(maxsize=64)
def _check_once(path: Path, version: tuple[int, ...]) -> None:
    if is_safetensors(path):
        check_safetensors(path)
        return
    refuse_other_forms(path)
    if is_zip(path):
        _check_archive(path)
    else:
        with open(regular(path), "rb") as handle:
            _refuse_endless_keys(path, handle, _OLD_PICKLES)


def most_unpacked(size: int) -> int:
    """How many bytes a file of ``size`` bytes may become."""
    return max(_MOST_UNPACKED * size, _ALWAYS_ALLOWED)


def unreadable(path: Path) -> str:
    """For a file that torch cannot read although its bytes are as they were written, or that has no check sums."""
    return f"{path}: truncated, damaged or not a checkpoint of torch.save; {_ADVICE}"


def refuse_endless(path: Path, content: Any) -> None:
    """Refuse lists that hold one list many times, and so on: few bytes that whoever walks through them never leaves.

    Raises:
        WeightsError: such lists, or ones that hold themselves or are nested too deeply.
    """
    sizes: dict[int, int] = {}

    def size(value: Any) -> int:
        if not isinstance(value, Mapping | list | tuple | set):
            return 1
        if id(value) not in sizes:
            sizes[id(value)] = _MOST_VALUES  # if it holds itself
            inner = [*value.keys(), *value.values()] if isinstance(value, Mapping) else value
            own = [value.arguments, value.elements, value.state] if isinstance(value, Foreign) else []
            sizes[id(value)] = 1 + sum(map(size, inner)) + sum(map(size, own))
        return sizes[id(value)]

    try:
        endless = size(content) > _MOST_VALUES
    except RecursionError:
        endless = True
    if endless:
        raise WeightsError(f"{path}: holds nested lists without end, as no checkpoint does; not read")


def _check_archive(path: Path) -> None:
    try:
        with zipfile.ZipFile(regular(path)) as archive:
            parts = archive.infolist()
            _check_directory(path, parts)
            has_sums = any(part.CRC for part in parts)  # torch.serialization.set_crc32_options(False) leaves zeros
            for part in parts:
                if not has_sums:
                    part.CRC = None  # type: ignore[assignment]  # zipfile then compares nothing
                _check_part(path, archive, part)
                if part.filename.endswith("/data.pkl"):
                    _refuse_endless_keys(path, io.BytesIO(archive.read(part)), 1)
    except WeightsError:  # a RuntimeError, too
        raise
    except _BROKEN as error:
        raise WeightsError(unreadable(path)) from error


def _refuse_endless_keys(path: Path, handle: BinaryIO, pickles: int) -> None:
    try:
        deepest = max(deepest_tuple(handle) for _ in range(pickles))
    except Exception as error:  # no pickle of torch.save
        raise WeightsError(unreadable(path)) from error
    if deepest > _MOST_TUPLES:
        raise WeightsError(f"{path}: holds nested lists without end, as no checkpoint does; not read")


def _check_directory(path: Path, parts: list[zipfile.ZipInfo]) -> None:
    size, unpacked = path.stat().st_size, sum(part.file_size for part in parts)
    if unpacked > most_unpacked(size):
        raise WeightsError(
            f"{path}: {size:,} bytes that unpack to {unpacked:,}, as a zip bomb does and no checkpoint; not read"
        )
    if len({part.filename for part in parts}) < len(parts):
        raise WeightsError(f"{path}: is damaged, two of its parts have one name; {_ADVICE}")
    # torch reads a part that is marked as a folder as a success, and leaves its tensor to chance.
    if marked := [part.filename for part in parts if part.external_attr & _FOLDER]:
        raise WeightsError(f"{path}: is damaged, its part {marked[0]!r} is marked as a folder; {_ADVICE}")


def _check_part(path: Path, archive: zipfile.ZipFile, part: zipfile.ZipInfo) -> None:
    try:
        with archive.open(part) as handle:
            while handle.read(1 << 20):
                pass
    except _BROKEN as error:
        raise WeightsError(f"{path}: is damaged, {_named(archive, part)}; {_ADVICE}") from error


def _named(archive: zipfile.ZipFile, part: zipfile.ZipInfo) -> str:
    """The tensors that a damaged part holds, or the part."""
    root, _, storage = part.filename.rpartition("/data/")
    try:
        with archive.open(f"{root}/data.pkl") as handle:
            places = places_of_storage(handle, storage)
    except Exception:  # not what torch.save pickles; the name of the part must do
        places = []
    if places:
        return f"tensor {', '.join(places[:3])} is not the one that was saved (check sum)"
    return f"its part {part.filename!r} is not the one that was saved (check sum)"
