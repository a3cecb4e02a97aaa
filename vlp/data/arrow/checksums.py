"""Checksums of a table: what a conversion notes, and what a run compares with it as it reads.

A run cannot read a hundred gigabytes before its first step. When it opens a table it compares everything but the
images (``values_crc32``), which it reads for its index anyway, and each image when it reads that image, with the
numbers in ``{table}.crc32`` beside the table. ``check`` compares the whole file (``sha256``).
"""

from __future__ import annotations

import hashlib
import io
import zlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import pyarrow as pa

from vlp.data.arrow.manifest import TableRecord, footer_sha256
from vlp.data.errors import DataError
from vlp.files import regular

MEGABYTE = 1 << 20
_UINT32 = np.dtype("<u4")


class HashedFile(io.RawIOBase):
    """Writes to ``handle`` and hashes what it writes."""

    def __init__(self, handle: BinaryIO) -> None:
        self.handle, self.sha256 = handle, hashlib.sha256()

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        self.sha256.update(data)
        return self.handle.write(data)


def file_sha256(path: Path, advance: Callable[[], None]) -> str:
    """Hash a file in hexadecimal; ``advance`` is called for every megabyte that is begun."""
    sha256 = hashlib.sha256()
    with open(regular(path), "rb") as handle:
        while data := handle.read(MEGABYTE):
            sha256.update(data)
            advance()
    return sha256.hexdigest()


def image_columns(schema: pa.Schema) -> list[str]:
    """Return the names of the columns that hold image files."""
    return [field.name for field in schema if pa.types.is_binary(field.type) or pa.types.is_large_binary(field.type)]


def values_crc32(table: pa.Table) -> int:
    """CRC-32 of the buffers of all columns, batch by batch, without the bytes of the images."""
    images, result = image_columns(table.schema), 0
    for name in table.column_names:
        for chunk in table[name].chunks:
            buffers = chunk.buffers()
            for buffer in buffers[:-1] if name in images else buffers:
                result = zlib.crc32(buffer, result) if buffer else result
    return result


def sums_path(table: Path) -> Path:
    """Return the file that holds the CRC-32 of each image of the table ``table``."""
    return table.with_suffix(".crc32")


def sums_bytes(sums: Sequence[int]) -> bytes:
    """Return the content of that file: uint32, little-endian, the image columns of the first row, of the second …"""
    return np.array(sums, _UINT32).tobytes()


def compare_file(path: Path, record: TableRecord) -> None:
    """Raise a DataError if size or footer (schema, places of the batches) are not those that ``record`` notes."""
    size = regular(path).stat().st_size
    if size != record.bytes:
        raise DataError(f"{path} is not as it was converted: {size} bytes, not {record.bytes}; {advice(path)}")
    if footer_sha256(path) != record.footer_sha256:
        raise DataError(f"{path} is not as it was converted: its footer differs; {advice(path)}")


def compare_values(path: Path, table: pa.Table, record: TableRecord) -> None:
    """Raise a DataError if anything but the images in ``table``, opened from ``path``, is not what ``record`` notes."""
    if values_crc32(table) != record.values_crc32:
        raise DataError(f"{path} is not as it was converted: the checksum of its texts differs; {advice(path)}")


def image_sums(path: Path, table: pa.Table, record: TableRecord) -> dict[str, np.ndarray]:
    """Return the CRC-32 of every image of ``table`` by column, each (rows,).

    Raises:
        DataError: the file that holds them is missing or damaged.
    """
    source, columns = sums_path(path), image_columns(table.schema)
    try:
        data = regular(source).read_bytes()
    except FileNotFoundError:
        raise DataError(f"{source} is missing: it belongs to {path.name}; {advice(source)}") from None
    if zlib.crc32(data) != record.images_crc32 or len(data) != 4 * table.num_rows * len(columns):
        raise DataError(f"{source} is not as it was written: its checksum differs; {advice(source)}")
    sums = np.frombuffer(data, _UINT32).reshape(table.num_rows, len(columns))
    return {column: sums[:, i] for i, column in enumerate(columns)}


def advice(path: Path) -> str:
    """Return what to do about a file that is not the one that was written."""
    return f"copy {path.name} anew or convert its dataset again (python -m vlp.data.arrow, see docs/data.md)"
