"""Read Arrow tables: memory-mapped images, and an index of all texts that costs no Python objects.

Tables are not concatenated: a row is found in its own table, so differing column types (string and large_string,
or the list<null> of test tables) need no promotion and no copy. The index is numpy, the texts stay in the mapped
file: forked loader workers share both (a Python list of millions of captions would be copied by each of them).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from vlp.data.errors import DataError

_ADVICE = "convert its dataset again (python -m vlp.data.arrow, see docs/data.md) or copy the file anew"


class ArrowTables:
    """The rows of several table files, one after the other, and the flat index of their texts.

    Source: docs/official/meter.md §3.3.

    ``rows[j]`` and ``numbers[j]`` give text j's row and its number within the row. With ``dedupe`` a row's repeated
    texts count once, in the order of their first appearance: the same in every process and on every rank.

    Raises:
        DataError: a file is not a complete Arrow file or lacks a column; with its name and what to do.
    """

    def __init__(self, files: Sequence[tuple[str, Path]], text_column: str, dedupe: bool) -> None:
        self.names = [name for name, _ in files]
        self._paths = [path for _, path in files]
        self._text_column = text_column
        texts = self._open()
        self._starts = np.cumsum([0] + [table.num_rows for table in self._tables])
        parts = [_index_texts(values, parents, dedupe) for values, parents in texts]
        self.rows = _concatenate([part[0] + start for part, start in zip(parts, self._starts[:-1], strict=True)])
        self.numbers = _concatenate([part[1] for part in parts])
        self._positions = _concatenate([part[2] for part in parts])

    def _open(self) -> list[tuple[pa.ChunkedArray, np.ndarray]]:
        """Map the files; return the texts of each and the row of every text."""
        self._tables = [open_table(path, self._text_column) for path in self._paths]
        columns = [table[self._text_column] for table in self._tables]
        texts = [_flatten(column, path) for column, path in zip(columns, self._paths, strict=True)]
        self._values = [values for values, _ in texts]
        return texts

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in self.__dict__.items() if name not in ("_tables", "_values")}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._open()  # a spawned worker maps the files itself instead of receiving their bytes

    def require(self, columns: Sequence[str]) -> None:
        """Raise a DataError that names the file if a table lacks one of ``columns``."""
        for table, path in zip(self._tables, self._paths, strict=True):
            for column in columns:
                _require(table, path, column)

    @property
    def num_rows(self) -> int:
        """Number of rows of all tables."""
        return int(self._starts[-1])

    @property
    def num_texts(self) -> int:
        """Number of texts of all rows."""
        return len(self.rows)

    def first_text(self, row: int) -> int:
        """Return the flat index of the first text of ``row`` or of a later row; ``num_texts`` if there is none."""
        return int(np.searchsorted(self.rows, row))

    def text(self, index: int) -> str:
        """Return text ``index``; of a (premise, hypothesis) pair the hypothesis, stripped."""
        table, _ = self._locate(int(self.rows[index]))
        value = self._values[table][int(self._positions[index])].as_py()
        return value if isinstance(value, str) else value[1].strip()

    def cell(self, row: int, column: str) -> Any:
        """Return the value of ``column`` at ``row`` as Python objects (bytes for an image)."""
        table, local = self._locate(row)
        return self._tables[table][column][local].as_py()

    def distinct(self, *columns: str) -> Iterator[tuple[Any, ...]]:
        """Yield the distinct combinations of parallel values in nested list ``columns``, table by table."""
        for table in self._tables:
            if table.num_rows:
                flat = pa.table({name: pc.list_flatten(table[name], recursive=True) for name in columns})
                groups = flat.group_by(list(columns)).aggregate([])
                yield from zip(*(groups[name].to_pylist() for name in columns), strict=True)

    def table_name(self, row: int) -> str:
        """Return the name of the table that holds ``row``."""
        return self.names[self._locate(row)[0]]

    def describe(self, row: int) -> str:
        """Name the place of ``row`` for a message: file, row in the file, image id."""
        table, local = self._locate(row)
        name = next((c for c in ("image_id", "identifier") if c in self._tables[table].column_names), None)
        label = f" ({self.cell(row, name)})" if name else ""
        return f"{self._paths[table]}, row {local}{label}"

    def _locate(self, row: int) -> tuple[int, int]:
        table = int(np.searchsorted(self._starts, row, side="right")) - 1
        return table, row - int(self._starts[table])


def open_table(path: Path, text_column: str) -> pa.Table:
    """Map an Arrow IPC file into memory.

    Raises:
        DataError: it is absent, empty, cut off, no Arrow file, or lacks ``text_column``, a column of lists.
    """
    if not path.is_file():
        raise DataError(f"{path} does not exist; {_ADVICE}")
    if path.stat().st_size == 0:
        raise DataError(f"{path} has zero bytes; {_ADVICE}")
    try:
        table = pa.ipc.open_file(pa.memory_map(str(path), "r")).read_all()
    except (pa.ArrowInvalid, OSError) as error:
        raise DataError(f"{path} is not a complete Arrow file ({error}); {_ADVICE}") from error
    _require(table, path, text_column)
    kind = table.schema.field(text_column).type
    if not any(is_kind(kind) for is_kind in (pa.types.is_list, pa.types.is_large_list, pa.types.is_null)):
        raise DataError(f"{path}: column {text_column!r} is of type {kind}, not a list of texts in each row; {_ADVICE}")
    return table


def _require(table: pa.Table, path: Path, column: str) -> None:
    if column not in table.column_names:
        raise DataError(f"{path} has no column {column!r} (it has {', '.join(table.column_names)}); {_ADVICE}")


def _flatten(column: pa.ChunkedArray, path: Path) -> tuple[pa.ChunkedArray, np.ndarray]:
    """Return the texts of a list column one after the other, without a copy, and the row of each."""
    if len(column) == 0:  # an empty shard of the official converters has columns of type null
        return pa.chunked_array([], pa.string()), np.zeros(0, np.int64)
    starts = np.cumsum([0] + [len(chunk) for chunk in column.chunks])
    values = pa.chunked_array([chunk.flatten() for chunk in column.chunks])
    parents = [pc.list_parent_indices(c).to_numpy() + start for c, start in zip(column.chunks, starts, strict=False)]
    result = _concatenate(parents)
    if values.null_count:
        row = int(result[int(pc.index(values.is_null(), True).as_py())])
        raise DataError(f"{path}, row {row}: a text is null; convert its dataset again")
    return values, result


def _index_texts(
    values: pa.ChunkedArray, parents: np.ndarray, dedupe: bool
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return (row, number within the row, position among all values) of every text that counts."""
    positions = np.arange(len(parents))
    if dedupe and (np.diff(parents) == 0).any():  # a web set has one text a row
        codes = pc.index_in(values, value_set=pc.unique(values)).to_numpy().astype(np.int64)
        _, first = np.unique(parents * (codes.max() + 1) + codes, return_index=True)
        positions = np.sort(first)
    rows = parents[positions]
    numbers = np.arange(len(rows)) - np.searchsorted(rows, rows)
    return rows.astype(np.int32), numbers.astype(np.int32), positions


def _concatenate(arrays: Sequence[np.ndarray]) -> np.ndarray:
    return np.concatenate(arrays) if arrays else np.zeros(0, np.int64)
