"""``python -m vlp.data.arrow check ARROW_ROOT``: what is there, what is missing, what is broken."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

import pyarrow as pa
from rich.console import Console
from rich.markup import escape
from rich.table import Table as Grid

from vlp.data.arrow.checksums import MEGABYTE, advice, file_sha256
from vlp.data.arrow.columns import columns_of
from vlp.data.arrow.manifest import Manifest, footer_sha256, manifest_path
from vlp.data.arrow.registry import SHARD, SPECS, DatasetSpec, Split, shard_numbers
from vlp.data.arrow.tables import ArrowTables
from vlp.data.conversion.progress import Progress
from vlp.data.conversion.summary import print_omissions
from vlp.data.errors import DataError
from vlp.data.images import ImageError, check_image
from vlp.data.published import TABLES, coverage


@dataclass
class Entry:
    """One table, or all shards of one name: what it holds and what is wrong with it."""

    name: str
    rows: int
    captions: int
    bytes: int
    files: int
    problems: list[str]
    coverage: float | None  # share of the published size


def check(
    root: Path,
    required: list[str],
    verify_images: bool = False,
    advance: Callable[[], None] = lambda: None,
    tokenizer: Any = None,
) -> tuple[dict[str, list[Entry]], list[str]]:
    """Check every dataset that has a manifest or a table in ``root``, and those in ``required``.

    Every file that has a checksum is read to its end; ``advance`` is called for every megabyte. With ``tokenizer`` also
    whether texts are texts to it.

    Returns:
        The entries by dataset key, and everything that is wrong.

    Raises:
        DataError: ``root`` is no folder or holds nothing that this command knows.
    """
    if not root.is_dir():
        raise DataError(f"{root} is not a directory")
    present = [key for key, spec in SPECS.items() if _is_present(spec, root)]
    if not present and not required:
        raise DataError(f"{root} holds no Arrow tables; convert the raw data first (docs/data.md)")
    problems = [f"dataset {key} is not there: convert it" for key in required if key not in present]
    entries: dict[str, list[Entry]] = {}
    for key in present:
        try:
            manifest = Manifest.read(root, key)
        except DataError as error:
            problems.append(str(error))
            continue
        if manifest is not None and not manifest.complete:
            problems.append(f"the conversion of {key} was interrupted: run it again with --resume")
        names = _names(SPECS[key], manifest)
        entries[key] = [_entry(name, SPECS[key], root, manifest, verify_images, advance, tokenizer) for name in names]
        problems += [problem for entry in entries[key] for problem in entry.problems]
        problems += _empty_splits(SPECS[key], entries[key])
    return entries, problems


def print_check(root: Path, required: list[str], verify_images: bool, console: Console, tokenizer: Any = None) -> bool:
    """Print the result of :func:`check`; return whether all is well."""
    megabytes = sum(-(-path.stat().st_size // MEGABYTE) for path in root.glob("*.arrow"))
    with Progress("check", megabytes, quiet=False, unit="MB") as progress:
        entries, problems = check(root, required, verify_images, progress.advance, tokenizer)
    grid = Grid(title=escape(str(root)), title_justify="left")
    for column in ("table", "files", "rows", "captions", "GB", "of published"):
        grid.add_column(column, justify="left" if column == "table" else "right")
    for tables in entries.values():
        for entry in tables:
            share = "" if entry.coverage is None else f"{entry.coverage:.1%}"
            counts = (f"{entry.files:,}", f"{entry.rows:,}", f"{entry.captions:,}", f"{entry.bytes / 1e9:,.2f}")
            grid.add_row(entry.name if not entry.problems else f"[red]{entry.name}[/]", *counts, share)
    console.print(grid)
    for key in entries:
        if (manifest := Manifest.read(root, key)) is not None:
            print_omissions(key, manifest.not_written, manifest.all_skips(), console)
    for problem in problems:
        console.print(f"[red]wrong[/]: {escape(problem)}", highlight=False, soft_wrap=True)
    console.print(
        "all tables are complete" if not problems else f"{len(problems)} problem{'s' * (len(problems) > 1)}",
        highlight=False,
    )
    return not problems


def _names(spec: DatasetSpec, manifest: Manifest | None = None) -> list[str]:
    """Return the names of all tables that some loader may read or the manifest records, shards as ``{i}``."""
    names = [*spec.train, *spec.val, *spec.test]
    if spec.karpathy_val is not None:
        names.append(spec.karpathy_val)
    if manifest is not None:
        shards = {name.replace(SHARD, str(i)) for name, count in manifest.shards.items() for i in range(count)}
        names += [*manifest.shards, *(name for name in manifest.tables if name not in shards)]
    return list(dict.fromkeys(names))


def _is_present(spec: DatasetSpec, root: Path) -> bool:
    return manifest_path(root, spec.key).is_file() or any(_files(name, root) for name in _names(spec))


def _files(name: str, root: Path) -> list[Path]:
    """Return the files of a table or of all shards that exist."""
    if SHARD in name:
        return [root / f"{name.replace(SHARD, str(i))}.arrow" for i in shard_numbers(name, root)]
    path = root / f"{name}.arrow"
    return [path] if path.is_file() else []


def _entry(
    name: str,
    spec: DatasetSpec,
    root: Path,
    manifest: Manifest | None,
    verify_images: bool,
    advance: Callable[[], None],
    tokenizer: Any,
) -> Entry:
    files = _files(name, root)
    entry = Entry(name, 0, 0, sum(path.stat().st_size for path in files), len(files), [], None)
    entry.problems += [f"{root / missing}.arrow is missing" for missing in _missing(name, root, files, manifest)]
    for path in files:
        try:
            differences = list(_differences(path, manifest, advance))
            entry.problems += differences
            records = {} if manifest is None or differences else manifest.tables
            tables = ArrowTables([(path.stem, path)], spec.text_column, False, records)
            entry.rows += tables.num_rows
            entry.captions += tables.num_texts
            tables.require(spec.kind, labelled=not name.startswith("vqav2_test"))
            if tokenizer is not None:
                entry.problems += _unfit_texts(path, tables, tokenizer)
            if verify_images:
                entry.problems += _broken_images(path, tables, spec)
        except DataError as error:
            entry.problems.append(str(error))
    found = entry.rows if spec.kind == "caption" else entry.captions
    entry.coverage = coverage(TABLES, [name], found)["coverage"]
    return entry


def _missing(name: str, root: Path, files: list[Path], manifest: Manifest | None) -> Iterator[str]:
    """Yield the names of tables that should be there."""
    if SHARD not in name:
        expected = [name]
    elif manifest is not None and name in manifest.shards:
        expected = [name.replace(SHARD, str(i)) for i in range(manifest.shards[name])]
    else:
        numbers = shard_numbers(name, root)
        expected = [name.replace(SHARD, str(i)) for i in range(max(numbers, default=0) + 1)]
    present = {path.stem for path in files}
    yield from (table for table in expected if table not in present)


def _empty_splits(spec: DatasetSpec, entries: list[Entry]) -> Iterator[str]:
    """Yield a line for all tables that are there and of which a run would read nothing."""
    by_name, empty = {entry.name: entry for entry in entries}, dict[tuple[str, ...], list[str]]()
    for split in get_args(Split):
        tables = [by_name[name] for name in spec.tables(split)]
        # What is missing or damaged has been said.
        if not any(table.problems or table.captions or not table.files for table in tables):
            empty.setdefault(spec.tables(split), []).append(split)
    for names, splits in empty.items():
        if names:
            yield f"{', '.join(names)}: not one caption, so {spec.key} has nothing to read for {', '.join(splits)}"


def _differences(path: Path, manifest: Manifest | None, advance: Callable[[], None]) -> Iterator[str]:
    """Yield how a file differs from its record in the manifest."""
    if manifest is None:
        return
    record = manifest.tables.get(path.stem)
    if record is None:
        yield f"{path} is not in the manifest of {manifest.dataset}: left from another conversion? Delete it"
    elif path.stat().st_size != record.bytes or footer_sha256(path) != record.footer_sha256:
        yield f"{path} is not the file that the manifest of {manifest.dataset} records: convert again"
    elif record.sha256 is not None and file_sha256(path, advance) != record.sha256:
        yield f"{path} is not as it was converted: its SHA-256 differs; {advice(path)}"


def _unfit_texts(path: Path, tables: ArrowTables, tokenizer: Any) -> list[str]:
    """Return a line if the texts of a table are none to ``tokenizer``."""
    # Not above: it needs torch, which takes longer to import than most conversions take.
    from vlp.data.arrow.datamodule import texts_of
    from vlp.data.unknown_tokens import complaint

    wrong = complaint(texts_of(str(path), tables, tokenizer), tokenizer)
    return [] if wrong is None else [wrong]


def _broken_images(path: Path, tables: ArrowTables, spec: DatasetSpec) -> Iterator[str]:
    """Yield a line for every image of a table that does not decode."""
    for column in (name for name, kind in columns_of(spec.kind).items() if pa.types.is_binary(kind)):
        for row in range(tables.num_rows):
            try:
                check_image(tables.cell(row, column))
            except ImageError as error:
                yield f"{path}, row {row}: {column} does not decode ({error})"
