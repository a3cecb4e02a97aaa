"""Arrow schemas of docs/official/meter.md §3.1, the plan of a table, and the writer that streams its rows to disk."""

from __future__ import annotations

import zlib
from array import array
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa

from vlp.data.arrow.checksums import HashedFile, image_columns, sums_bytes, sums_path, values_crc32
from vlp.data.arrow.manifest import TableRecord, footer_sha256
from vlp.data.conversion.image_files import content_problem, file_problem
from vlp.data.conversion.skips import Skips
from vlp.files import atomic_open, regular

Row = dict[str, Any]
BATCH_BYTES = 32 << 20
_THREADS = 8

_TEXTS, _INTS = pa.list_(pa.string()), pa.list_(pa.int64())
CAPTION = pa.schema([("image", pa.binary()), ("caption", _TEXTS), ("image_id", pa.string()), ("split", pa.string())])
VG = pa.schema(
    [
        ("image", pa.binary()),
        ("caption", _TEXTS),
        *((name, _INTS) for name in ("width", "height", "x", "y")),
        ("image_id", pa.string()),
    ]
)
NLVR2 = pa.schema(
    [
        ("image_0", pa.binary()),
        ("image_1", pa.binary()),
        ("questions", _TEXTS),
        ("answers", _TEXTS),
        ("identifier", pa.string()),
    ]
)
SNLI = pa.schema([("image", pa.binary()), ("sentences", pa.list_(_TEXTS)), ("labels", _INTS)])


def vqa_schema(answers: bool) -> pa.Schema:
    """Return the schema of the VQAv2 tables; in test tables (``answers`` false) the answer columns are list<null>."""

    def column(kind: pa.DataType) -> pa.DataType:
        return pa.list_(pa.list_(kind)) if answers else pa.list_(pa.null())

    return pa.schema(
        [
            ("image", pa.binary()),
            ("questions", _TEXTS),
            ("answers", column(pa.string())),
            ("answer_labels", column(pa.int64())),
            ("answer_scores", column(pa.float64())),
            ("image_id", pa.int64()),
            ("question_id", _INTS),
            ("split", pa.string()),
        ]
    )


class ArchivedImage(NamedTuple):
    """The content of an image that lies in an archive; ``path`` names archive and member."""

    path: Path
    data: bytes


@dataclass(frozen=True)
class Table:
    """A table to write. ``rows`` yields rows lazily; an image column may hold a path, whose bytes are read here, or
    an :class:`ArchivedImage`.

    ``texts`` names the column whose elements are counted as captions; ``total`` is the number of rows to expect;
    ``shard_of`` is the name with ``{i}`` in place of the number, if the table is one of several shards.
    """

    name: str
    schema: pa.Schema
    rows: Callable[[Skips], Iterator[Row]]
    total: int
    texts: str = "caption"
    shard_of: str | None = None


def write_table(table: Table, folder: Path, verify_images: bool, advance: Callable[[], None]) -> TableRecord:
    """Write ``{table.name}.arrow`` into ``folder`` in batches of about 32 MB; it appears only when complete.

    Beside it ``{table.name}.crc32`` is written, with a checksum of each image. Rows whose image cannot be read, is
    empty or (with ``verify_images``) does not decode are left out and counted.
    """
    skips, path = Skips(), folder / f"{table.name}.arrow"
    rows = captions = 0
    images, sums = image_columns(table.schema), array("L")
    # Python file objects, not Arrow's: their errors carry the errno, and they can be synced.
    with atomic_open(path) as handle, pa.ipc.new_file(hashed := HashedFile(handle), table.schema) as sink:
        for batch in _batches(usable_rows(table, skips, verify_images, advance), images):
            rows, captions = rows + len(batch), captions + sum(len(row[table.texts]) for row in batch)
            sums.extend(zlib.crc32(row[column]) for row in batch for column in images)
            sink.write_batch(pa.RecordBatch.from_pylist(batch, schema=table.schema))
    with atomic_open(sums_path(path)) as handle:
        handle.write(content := sums_bytes(sums))
    with pa.memory_map(str(regular(path))) as file:
        values = values_crc32(pa.ipc.open_file(file).read_all())
    record = TableRecord(rows, captions, path.stat().st_size, footer_sha256(path), dict(skips))
    return replace(record, sha256=hashed.sha256.hexdigest(), values_crc32=values, images_crc32=zlib.crc32(content))


def _batches(rows: Iterable[Row], images: list[str]) -> Iterator[list[Row]]:
    """Group ``rows`` by the size of their images."""
    batch: list[Row] = []
    size = 0
    for row in rows:
        batch.append(row)
        size += sum(len(row[column]) for column in images)
        if size >= BATCH_BYTES:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch


def usable_rows(table: Table, skips: Skips, verify: bool, advance: Callable[[], None] = lambda: None) -> Iterator[Row]:
    """Yield the rows of ``table`` with their images' bytes; the others are counted in ``skips``."""
    for row in _read_ahead(table.rows(skips), verify):
        advance()
        if isinstance(row, _Unusable):
            skips.add(row.reason, row.example)
        else:
            yield row


@dataclass(frozen=True)
class _Unusable:
    reason: str
    example: str


def _read_ahead(rows: Iterator[Row], verify: bool) -> Iterator[Row | _Unusable]:
    """Read the images of coming rows in threads (a network disk answers slowly, but many at a time); in order."""
    with ThreadPoolExecutor(_THREADS) as pool:
        pending: deque[Future[Row | _Unusable]] = deque()
        for row in rows:
            pending.append(pool.submit(_with_images, row, verify))
            if len(pending) > 4 * _THREADS:
                yield pending.popleft().result()
        while pending:
            yield pending.popleft().result()


def _with_images(row: Row, verify: bool) -> Row | _Unusable:
    """Replace every path in ``row`` by the bytes of the file; say why if one of them is not usable."""
    loaded = dict(row)
    for column, value in row.items():
        if isinstance(value, ArchivedImage):
            path, data = value
        elif isinstance(value, Path):
            path = value
            if problem := file_problem(path):
                return _Unusable(*problem)
            try:
                data = path.read_bytes()
            except OSError as error:
                return _Unusable("image cannot be read", f"{path}: {error.strerror or error}")
        else:
            continue
        if problem := content_problem(path, data, verify):
            return _Unusable(*problem)
        loaded[column] = data
    return loaded
