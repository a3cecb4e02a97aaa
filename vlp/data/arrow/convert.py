"""Run one conversion: plan the tables, write each of them atomically, keep the manifest true at every moment."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from vlp.console import stdout_console
from vlp.data.arrow.checksums import sums_path
from vlp.data.arrow.manifest import Manifest, TableRecord, footer_sha256
from vlp.data.arrow.plans import PLANS
from vlp.data.arrow.writer import Table, usable_rows, write_table
from vlp.data.conversion.output import held_output
from vlp.data.conversion.progress import Progress
from vlp.data.conversion.skips import Skips
from vlp.data.conversion.summary import print_omissions, print_written
from vlp.data.errors import DataError
from vlp.data.raw.source import Source


def convert(
    name: str,
    root: str | Path,
    output: str | Path,
    *,
    seed: int = 0,
    verify_images: bool = False,
    resume: bool = False,
    quiet: bool = False,
) -> Manifest:
    """Convert the raw download of dataset ``name`` under ``root`` into Arrow tables under ``output``.

    The same files and seed give the same tables on every machine: images are sorted by path, then shuffled with
    ``seed``. A table appears under its name only when it is complete. While the conversion runs, the manifest says
    that it is not complete, and the readers refuse the dataset.

    Args:
        verify_images: decode every image and leave out those that do not decode.
        resume: keep the tables that an interrupted run of the same conversion has finished.
        quiet: no progress on stderr.

    Returns:
        The manifest, as it was saved to ``{output}/{name}.manifest.json``.

    Raises:
        DataError: raw files are missing or not in the expected layout (docs/data.md), nothing could be written, or
            ``output`` is no folder to write to or held by another conversion of this dataset.
        OSError: the disk is full.
    """
    if name not in PLANS:
        raise ValueError(f"unknown dataset {name!r}; known: {', '.join(PLANS)}")
    source = Source(Path(root), seed)
    if not source.root.is_dir():
        raise DataError(f"--root {root} is not a directory")
    with held_output(Path(output), name):
        return _convert(name, source, Path(output), verify_images, resume, quiet)


def _convert(name: str, source: Source, folder: Path, verify_images: bool, resume: bool, quiet: bool) -> Manifest:
    """Convert into ``folder``, which no other process converts this dataset into meanwhile."""
    tables = PLANS[name](source, folder)
    if not tables:
        reasons = "; ".join(f"{what}: {why}" for what, why in source.not_written.items())
        raise DataError(f"nothing to convert for {name} under {source.root}: {reasons}")
    plan = _fingerprint(source, tables, verify_images)
    manifest = Manifest(name, str(source.root.resolve()), source.layout, source.seed, plan)
    manifest.found, manifest.skipped, manifest.not_written = source.found, dict(source.skips), source.not_written
    manifest.shards = _shards(tables)
    finished = _finished(folder, manifest) if resume else {}
    if any((folder / f"{table.name}.arrow").exists() for table in tables):
        _refuse_nothing(manifest, tables, verify_images)  # before good tables are written over
    manifest.tables.update(finished)
    manifest.write(folder)
    with Progress(name, sum(table.total for table in tables), quiet) as progress:
        for table in tables:
            if table.name in finished:
                progress.advance(table.total)
                continue
            manifest.tables[table.name] = write_table(table, folder, verify_images, progress.advance)
            manifest.write(folder)
    _refuse_empty(manifest)
    manifest.complete = True
    manifest.write(folder)
    return manifest


def make_arrow(name: str, root: str | Path, dataset_root: str | Path, **options: Any) -> Manifest:
    """Convert dataset ``name`` as :func:`convert` does and print what was written and what was left out."""
    manifest = convert(name, root, dataset_root, **options)
    console = stdout_console()
    files = {f"{table}.arrow": record for table, record in manifest.tables.items()}
    print_written(name, str(dataset_root), files, manifest.found, console)
    print_omissions(name, manifest.not_written, manifest.all_skips(), console)
    return manifest


# The official converters' function make_arrow(root, dataset_root), by dataset.
CONVERTERS: dict[str, Callable[..., Manifest]] = {name: partial(make_arrow, name) for name in PLANS}


def _fingerprint(source: Source, tables: list[Table], verify_images: bool) -> str:
    tables_and_rows = [(table.name, table.total) for table in tables]
    plan = [str(source.root.resolve()), source.layout, source.seed, verify_images, tables_and_rows]
    if source.shards:
        plan.append(source.shards)
    return hashlib.sha256(json.dumps(plan).encode()).hexdigest()


def _shards(tables: list[Table]) -> dict[str, int]:
    counts: dict[str, int] = {}
    for table in tables:
        if table.shard_of:
            counts[table.shard_of] = counts.get(table.shard_of, 0) + 1
    return counts


def _finished(folder: Path, manifest: Manifest) -> dict[str, TableRecord]:
    """Return the tables of an interrupted run of the same plan that are still as they were written."""
    old = Manifest.read(folder, manifest.dataset)
    if old is None:
        return {}
    if old.plan != manifest.plan:
        raise DataError(
            f"--resume: the raw data or the options differ from the interrupted run of {manifest.dataset} in "
            f"{folder}; run without --resume to convert everything again"
        )
    return {name: record for name, record in old.tables.items() if _unchanged(folder / f"{name}.arrow", record)}


def _unchanged(path: Path, record: TableRecord) -> bool:
    if record.images_crc32 is not None and not sums_path(path).is_file():
        return False
    return path.is_file() and path.stat().st_size == record.bytes and footer_sha256(path) == record.footer_sha256


def _refuse_nothing(manifest: Manifest, tables: list[Table], verify_images: bool) -> None:
    """Raise a DataError if not one row of ``tables`` can be written; read as far as the first that can."""
    skips = Skips()
    if not any(True for table in tables for _ in usable_rows(table, skips, verify_images)):
        raise DataError(_nothing(manifest, skips))


def _refuse_empty(manifest: Manifest) -> None:
    if not any(record.rows for record in manifest.tables.values()):
        skips = {reason: entry for table in manifest.tables.values() for reason, entry in table.skipped.items()}
        raise DataError(_nothing(manifest, skips))


def _nothing(manifest: Manifest, skips: Mapping[str, Any]) -> str:
    reasons = {**manifest.skipped, **skips}
    counts = ", ".join(f"{reason} ({entry['count']})" for reason, entry in reasons.items()) or "no images"
    return f"{manifest.dataset}: not one row could be written from {manifest.source}: {counts}"
