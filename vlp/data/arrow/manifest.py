"""What a conversion wrote: one ``{dataset}.manifest.json`` per dataset, beside its tables.

One file per dataset, so that conversions that run side by side into one folder do not touch each other's record.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, get_args, get_origin, get_type_hints

from vlp.data.conversion.skips import Skips, merge_skips
from vlp.data.errors import DataError
from vlp.files import read_json, regular, write_json

FORMAT = 1
_MAGIC = b"ARROW1"
_CHECKSUM = "content_sha256"  # of all other keys


@dataclass
class TableRecord:
    """One table file: ``rows``, ``captions`` (texts in all rows), ``bytes``, hash of its footer, what was skipped.

    ``sha256`` is that of the file, ``values_crc32`` that of everything but the images, ``images_crc32`` that of
    ``{table}.crc32`` (:mod:`vlp.data.arrow.checksums`); older manifests have none of the three.
    """

    rows: int
    captions: int
    bytes: int
    footer_sha256: str
    skipped: dict[str, Any] = field(default_factory=dict)
    sha256: str | None = None
    values_crc32: int | None = None
    images_crc32: int | None = None


@dataclass
class Manifest:
    """The record of one dataset. ``complete`` is false from the start of a conversion to its end."""

    dataset: str
    source: str
    layout: str
    seed: int
    plan: str  # fingerprint of the tables to write; --resume keeps finished tables only if it is unchanged
    shards: dict[str, int] = field(default_factory=dict)
    found: dict[str, int] = field(default_factory=dict)
    skipped: dict[str, Any] = field(default_factory=dict)
    not_written: dict[str, str] = field(default_factory=dict)
    tables: dict[str, TableRecord] = field(default_factory=dict)
    complete: bool = False
    format: int = FORMAT

    def write(self, root: Path) -> None:
        """Write the manifest into the Arrow folder ``root``, atomically, with a checksum of its content."""
        value = asdict(self)
        write_json(manifest_path(root, self.dataset), {**value, _CHECKSUM: _content_sha256(value)})

    def all_skips(self) -> Skips:
        """Return what was left out while the tables were planned and while each of them was written."""
        return merge_skips([self.skipped, *(record.skipped for record in self.tables.values())])

    @classmethod
    def read(cls, root: Path, dataset: str) -> Manifest | None:
        """Read the manifest of ``dataset``; None if the tables were written by other code.

        Raises:
            DataError: the file is not a manifest that this version can read, or not as it was written.
        """
        path = manifest_path(root, dataset)
        if not path.is_file():
            return None
        advice = f"delete {path} and convert {dataset} again"
        try:
            value = read_json(path)
        except (ValueError, RecursionError) as error:
            raise DataError(f"{path} is not valid JSON ({error}); {advice}") from error
        checksum = value.pop(_CHECKSUM, None) if isinstance(value, dict) else None
        if checksum is not None and checksum != _content_sha256(value):  # older manifests have none
            raise DataError(f"{path} is not as it was written: its checksum differs; copy it anew, or {advice}")
        try:
            return cls._of(value)
        except (TypeError, AttributeError, KeyError, ValueError) as error:
            raise DataError(f"{path} is not a manifest of format {FORMAT} ({error}); {advice}") from error

    @classmethod
    def _of(cls, value: dict[str, Any]) -> Manifest:
        if value["format"] != FORMAT:
            raise ValueError(f"its format is {value['format']!r}")
        manifest = cls(**{**value, "tables": {name: TableRecord(**record) for name, record in value["tables"].items()}})
        _require_types(manifest)
        for record in manifest.tables.values():
            _require_types(record)
        manifest.all_skips()
        return manifest


def manifest_path(root: Path, dataset: str) -> Path:
    """Return where the manifest of ``dataset`` lies in the Arrow folder ``root``."""
    return root / f"{dataset}.manifest.json"


def footer_sha256(path: Path) -> str:
    """Hash the footer of an Arrow IPC file (schema and the place of every batch), without reading its images.

    Raises:
        DataError: the file does not end as an Arrow IPC file ends.
    """
    with open(regular(path), "rb") as handle:
        size = handle.seek(0, 2)
        handle.seek(max(0, size - 10))
        tail = handle.read()
        length = int.from_bytes(tail[:4], "little", signed=True)
        if len(tail) < 10 or tail[4:] != _MAGIC or not 0 < length <= size - 10:
            raise DataError(f"{path} ({size} bytes) is not a complete Arrow file; convert its dataset again")
        handle.seek(size - 10 - length)
        return hashlib.sha256(handle.read(length)).hexdigest()


def _content_sha256(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()


def _require_types(record: Manifest | TableRecord) -> None:
    """Raise a TypeError that names the field of ``record`` whose value is of another type than is declared."""
    for name, kind in get_type_hints(type(record)).items():
        value = getattr(record, name)
        if get_origin(kind) is dict:
            values, wanted = list(value.values()), get_args(kind)[1]
        else:
            values, wanted = [value], kind
        for each in values:
            if wanted is not Any and (not isinstance(each, wanted) or (isinstance(each, bool) and wanted is not bool)):
                raise TypeError(f"{name}: {str(each)[:80]!r}")
