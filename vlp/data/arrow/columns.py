"""Which columns a reader needs of a table, of which type, and that they belong together."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.types as kinds

from vlp.data.arrow.checksums import advice
from vlp.data.arrow.writer import CAPTION, NLVR2, SNLI, vqa_schema
from vlp.data.errors import DataError

# By the kind of data set: what the converters write. The names of images are told, not computed with.
_SCHEMAS = {"caption": CAPTION, "vqa": vqa_schema(True), "nlvr2": NLVR2, "snli": SNLI}
_NAMES = ("image_id", "identifier", "split")
# Text columns by their names, which are the same in all kinds.
TEXTS: dict[str, pa.DataType] = {
    name: SNLI.field(name).type if name == "sentences" else CAPTION.field("caption").type
    for name in ("caption", "questions", "sentences")
}


def _one_of(*allowed: Any) -> Callable[[pa.ChunkedArray], pa.ChunkedArray]:
    return lambda values: pc.is_in(values, value_set=pa.array(allowed, values.type))


# Labels that would be counted as another label, or lead nowhere: (kind, column) -> which of the values are allowed.
_ALLOWED: dict[tuple[str, str], Callable[[pa.ChunkedArray], pa.ChunkedArray]] = {
    ("nlvr2", "answers"): _one_of("True", "False"),
    ("snli", "labels"): _one_of(0, 1, 2),
    ("vqa", "answer_labels"): lambda values: pc.fill_null(pc.greater_equal(values, 0), False),
}


def columns_of(kind: str) -> dict[str, pa.DataType]:
    """Return name and type of the columns that the samples of a kind of data set are made of."""
    return {field.name: field.type for field in _SCHEMAS[kind] if field.name not in _NAMES}


def require_columns(table: pa.Table, path: Path, expected: Mapping[str, pa.DataType | None]) -> None:
    """Raise a DataError that names the file if ``table`` lacks one of the columns or has it with another type.

    None stands for any type. An empty table may have columns of type null: so pandas writes them.
    """
    for name, kind in expected.items():
        if name not in table.column_names:
            raise DataError(f"{path} has no column {name!r} (it has {', '.join(table.column_names)}); {advice(path)}")
        found = table.schema.field(name).type
        if kind is not None and not (_serves(found, kind) or (kinds.is_null(found) and not table.num_rows)):
            raise DataError(f"{path}: column {name!r} is of type {found}, not {kind}; {advice(path)}")


def require_rows(table: pa.Table, path: Path, kind: str, texts: str, labelled: bool) -> None:
    """Raise a DataError that names the file if samples of ``kind`` cannot be made of its rows.

    It must have the columns, a text if it has rows, in every list an element for each text, and labels that mean
    something. Without labels (``labelled`` false) lists of lists may be empty.
    """
    columns = columns_of(kind)
    require_columns(table, path, columns)
    counts = _lengths(table[texts])
    if len(counts) and not counts.any():
        raise DataError(f"{path} has {len(counts)} rows and not one text in their {texts!r}; {advice(path)}")
    for name, column in columns.items():
        if not kinds.is_list(column) or (kinds.is_list(column.value_type) and not labelled):
            continue
        if not np.array_equal(lengths := _lengths(table[name]), counts):
            row = int(np.flatnonzero(lengths != counts)[0])
            raise DataError(f"{path}, row {row}: {counts[row]} {texts}, but {lengths[row]} {name}; {advice(path)}")
        values = pc.list_flatten(table[name], recursive=True)
        allowed = _ALLOWED.get((kind, name), pc.is_valid)(values).to_numpy(zero_copy_only=False)
        if not allowed.all():
            value = values[int(np.flatnonzero(~allowed)[0])].as_py()
            raise DataError(f"{path}: {value!r} in column {name!r} is not allowed; {advice(path)}")


def _lengths(column: pa.ChunkedArray) -> np.ndarray:
    if not len(column):
        return np.zeros(0, np.int64)
    return pc.fill_null(pc.list_value_length(column), 0).to_numpy().astype(np.int64)


def _serves(found: pa.DataType, expected: pa.DataType) -> bool:
    """Whether values of the type ``found`` read like those of ``expected``; pandas chooses large types, for example."""
    if kinds.is_list(expected):
        is_list = kinds.is_list(found) or kinds.is_large_list(found)
        return is_list and (kinds.is_null(found.value_type) or _serves(found.value_type, expected.value_type))
    for same in (
        (kinds.is_binary, kinds.is_large_binary),
        (kinds.is_string, kinds.is_large_string),
        (kinds.is_integer,),
        (kinds.is_floating,),
    ):
        if any(is_kind(expected) for is_kind in same):
            return any(is_kind(found) for is_kind in same)
    return False
