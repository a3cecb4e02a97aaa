"""Read Arrow tables: memory-mapped images, and an index of all texts that costs no Python objects.

Tables are not concatenated: a row is found in its own table, so differing column types (string and large_string,
or the list<null> of test tables) need no promotion and no copy. The index is numpy, the texts stay in the mapped
file: forked loader workers share both (a Python list of millions of captions would be copied by each of them).
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from vlp.data.arrow.checksums import advice, compare_file, compare_values, image_sums, values_crc32
from vlp.data.arrow.columns import TEXTS, require_columns, require_rows
from vlp.data.arrow.manifest import TableRecord
from vlp.data.errors import DataError


class ArrowTables:
    """The rows of several table files, one after the other, and the flat index of their texts.

    Source: docs/official/meter.md §3.3.

    ``rows[j]`` and ``numbers[j]`` give text j's row and its number within the row. With ``dedupe`` a row's repeated
    texts count once, in the order of their first appearance: the same in every process and on every rank.

    A table that ``records`` has checksums of (:mod:`vlp.data.arrow.checksums`) is compared with them: everything but
    the images now, each image when it is read.

    Raises:
        DataError: a file is not a complete Arrow file, is not as it was converted, or lacks lists of texts; with its
            name and what to do.
    """

    def __init__(
        self,
        files: Sequence[tuple[str, Path]],
        text_column: str,
        dedupe: bool,
        records: Mapping[str, TableRecord] | None = None,
    ) -> None:
        self.names = [name for name, _ in files]
        self._paths = [path for _, path in files]
        self._text_column = text_column
        found = {path: (records or {}).get(name) for name, path in files}
        self._records = {path: record for path, record in found.items() if record and record.sha256 is not None}
        for path, record in self._records.items():
            compare_file(path, record)
        texts = self._open()
        for path, table in zip(self._paths, self._tables, strict=True):
            if path in self._records:
                compare_values(path, table, self._records[path])
        self._starts = np.cumsum([0] + [table.num_rows for table in self._tables])
        parts = [_index_texts(values, parents, dedupe) for values, parents in texts]
        self.rows = _concatenate([part[0] + start for part, start in zip(parts, self._starts[:-1], strict=True)])
        self.numbers = _concatenate([part[1] for part in parts])
        self._positions = _concatenate([part[2] for part in parts])

    @property
    def empty(self) -> list[str]:
        """The names of the tables without a row."""
        return [name for name, table in zip(self.names, self._tables, strict=True) if not table.num_rows]

    def _open(self) -> list[tuple[pa.ChunkedArray, np.ndarray]]:
        """Map the files; return the texts of each and the row of every text."""
        self._tables = [open_table(path, self._text_column) for path in self._paths]
        columns = [table[self._text_column] for table in self._tables]
        texts = [_flatten(column, path) for column, path in zip(columns, self._paths, strict=True)]
        self._values = [values for values, _ in texts]
        self._sums = [
            image_sums(path, table, self._records[path]) if path in self._records else {}
            for path, table in zip(self._paths, self._tables, strict=True)
        ]
        return texts

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in self.__dict__.items() if name not in ("_tables", "_values", "_sums")}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._open()  # a spawned worker maps the files itself instead of receiving their bytes

    def require(self, kind: str, labelled: bool = True) -> None:
        """Raise a DataError that names the file if samples of ``kind`` cannot be made of a table's rows."""
        for table, path in zip(self._tables, self._paths, strict=True):
            require_rows(table, path, kind, self._text_column, labelled)

    def require_column(self, name: str) -> None:
        """Raise a DataError that names the file if a table has no column ``name``."""
        for table, path in zip(self._tables, self._paths, strict=True):
            require_columns(table, path, {name: None})

    def digests(self) -> dict[str, str]:
        """The digest of each file: of all columns, of the images their sizes alone.

        It costs nothing for a table whose checksum has been compared.
        """
        return {
            path.name: _digest(table, self._records.get(path))
            for path, table in zip(self._paths, self._tables, strict=True)
        }

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
        """Return the value of ``column`` at ``row`` as Python objects (bytes for an image).

        Raises:
            DataError: an image is not the one that was converted.
        """
        table, local = self._locate(row)
        value = self._tables[table][column][local].as_py()
        if column in self._sums[table] and zlib.crc32(value) != self._sums[table][column][local]:
            raise DataError(
                f"{self.describe(row)}: {column} is not as it was converted: its checksum differs; "
                f"{advice(self._paths[table])}"
            )
        return value

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


def _digest(table: pa.Table, record: TableRecord | None) -> str:
    known = None if record is None else record.values_crc32
    values = values_crc32(table) if known is None else known
    return f"{table.num_rows} rows, {zlib.crc32(' '.join(table.column_names).encode(), values):08x}"


def open_table(path: Path, text_column: str) -> pa.Table:
    """Map an Arrow IPC file into memory.

    Raises:
        DataError: it is absent, empty, cut off, no Arrow file, has offsets that lead nowhere or texts that are no
            Unicode, or lacks ``text_column``, lists of texts.
    """
    if not path.is_file():
        raise DataError(f"{path} {'is not a regular file' if path.exists() else 'does not exist'}; {advice(path)}")
    if path.stat().st_size == 0:
        raise DataError(f"{path} has zero bytes; {advice(path)}")
    try:
        table = pa.ipc.open_file(pa.memory_map(str(path), "r")).read_all()
        _ = table.column_names  # decoded only now
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path} is not a complete Arrow file ({error}); {advice(path)}") from error
    try:
        table.validate(full=True)  # of an image its place, not its bytes
    except pa.ArrowException as error:
        raise DataError(f"{path} is damaged ({error}); {advice(path)}") from error
    require_columns(table, path, {text_column: TEXTS[text_column]})
    return table


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
