"""Parquet files of img2dataset: shards that hold their images, and the table of all links beside a shard of files."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import repeat
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from vlp.data.errors import DataError
from vlp.data.raw.img2dataset.samples import (
    IMAGE_SUFFIXES,
    PASSED,
    REPEATED,
    SUCCESS,
    Item,
    Sample,
    Unusable,
)
from vlp.files import regular

_DAMAGED = "Parquet file that is cut off or damaged: the rest of it is lost"
_BROKEN = (pa.ArrowException, OSError, ValueError)
_IMAGES, _KEYS = 64, 10_000  # rows that are in memory at once
_BUFFER = 1 << 20  # a row group may be as large as the file: it is not read at once


@dataclass
class Links:
    """What the table of a shard says: how many links there are, how many failed by status, keys of the others.

    ``first`` and ``last`` are the least and the greatest key that succeeded, as strings.
    """

    total: int = 0
    failed: Counter[str] = field(default_factory=Counter)
    first: str = ""
    last: str = ""

    @property
    def succeeded(self) -> int:
        return self.total - sum(self.failed.values())


def holds_images(path: Path) -> bool:
    """Whether a Parquet file has a column of images; a file that cannot be opened has none."""
    try:
        names = pq.read_schema(regular(path)).names
    except _BROKEN:
        return False
    return any(suffix in names for suffix in IMAGE_SUFFIXES)


def links(path: Path) -> Links:
    """Read the keys and the status of all links.

    Raises:
        DataError: there is no column of keys.
        pa.ArrowException, OSError, ValueError: the file is damaged.
    """
    found = Links()
    for key, status in _keys(path):
        found.total += 1
        if status != SUCCESS:
            found.failed[status] += 1
            continue
        found.first = min(found.first or key, key)
        found.last = max(found.last, key)
    return found


def succeeded_keys(path: Path) -> Iterator[str]:
    """Yield the keys of the links that succeeded."""
    return (key for key, status in _keys(path) if status == SUCCESS)


def _keys(path: Path) -> Iterator[tuple[str, str]]:
    with _opened(path) as file:
        _require(path, file.schema_arrow, "key")
        columns = _names(file)
        for batch in file.iter_batches(_KEYS, columns=columns):
            yield from _pairs(batch)


def _names(file: pq.ParquetFile) -> list[str]:
    return [name for name in ("key", "status") if name in file.schema_arrow.names]


def _pairs(part: pa.RecordBatch | pa.Table) -> Iterator[tuple[str, str]]:
    """Key and status of each row."""
    values = part.to_pydict()
    for key, status in zip(values["key"], values.get("status", [SUCCESS] * len(part)), strict=True):
        yield str(key), str(status)


def parquet_samples(path: Path, skip: int = 0) -> Iterator[Item]:
    """Yield what a shard holds, in its order: a sample or, with the reason, what is left out.

    Rows of another status than "success" are passed over: :func:`links` counts them. Of the first ``skip`` that are
    left images need not be read: :data:`PASSED` may stand in their place.

    Raises:
        DataError: the file has no column of keys, captions or images.
    """
    done, seen = 0, set[str]()
    try:
        with _opened(path) as file:
            columns = _columns(path, file.schema_arrow)
            groups, passed = _groups_from(file, skip, seen)
            yield from repeat(PASSED, passed)
            for batch in file.iter_batches(_IMAGES, row_groups=groups, columns=list(columns.values())):
                for row in batch.to_pylist():
                    done += 1
                    values = {what: row[name] for what, name in columns.items()}
                    if values.get("status", SUCCESS) == SUCCESS:
                        yield _sample(path, values, columns["image"], seen)
    except _BROKEN as error:
        yield Unusable(_DAMAGED, f"{path} from row {done} on: {error}")


def _groups_from(file: pq.ParquetFile, skip: int, seen: set[str]) -> tuple[range, int]:
    """The row groups from that of sample ``skip`` on, and how many samples lie before, whose keys go to ``seen``."""
    passed = 0
    if not skip:
        return range(file.num_row_groups), 0
    for number in range(file.num_row_groups):
        group = file.read_row_group(number, columns=_names(file))
        keys = [key for key, status in _pairs(group) if status == SUCCESS]
        if passed + len(keys) > skip:
            return range(number, file.num_row_groups), passed
        seen.update(keys)
        passed += len(keys)
    return range(0), passed


def _sample(path: Path, values: dict[str, Any], suffix: str, seen: set[str]) -> Item:
    key = str(values["key"])
    name = f"{key}.{suffix}"
    if key in seen:
        return Unusable(REPEATED, f"{path}: {name}")
    seen.add(key)
    return Sample(key, name, values["image"] or b"", values["caption"] or "")


def _opened(path: Path) -> pq.ParquetFile:
    return pq.ParquetFile(regular(path), buffer_size=_BUFFER, pre_buffer=False)


def _columns(path: Path, schema: pa.Schema) -> dict[str, str]:
    """What is read -> the column that holds it."""
    columns = {
        "key": _require(path, schema, "key"),
        "caption": _require(path, schema, "caption", "txt"),
        "image": _require(path, schema, *IMAGE_SUFFIXES),
    }
    for what, right in (("caption", _is_text), ("image", _is_binary)):
        kind = schema.field(columns[what]).type
        if not right(kind):
            raise DataError(f"{path}: column {columns[what]} holds {kind}, no {what}s; {_ADVICE}")
    return {**columns, **({"status": "status"} if "status" in schema.names else {})}


_ADVICE = "download it again with img2dataset"


def _require(path: Path, schema: pa.Schema, *names: str) -> str:
    """The first of ``names`` that is a column."""
    found = next((name for name in names if name in schema.names), None)
    if found is None:
        raise DataError(f"{path} has no column {' or '.join(names)} but {', '.join(schema.names)}; {_ADVICE}")
    return found


def _is_text(kind: pa.DataType) -> bool:
    return pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_null(kind)


def _is_binary(kind: pa.DataType) -> bool:
    return pa.types.is_binary(kind) or pa.types.is_large_binary(kind)
