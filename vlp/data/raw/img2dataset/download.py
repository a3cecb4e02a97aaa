"""An img2dataset download: which of its formats it has, and the records of one whose shards hold their images."""

from __future__ import annotations

import sys
from collections import Counter
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa

from vlp.data.errors import DataError
from vlp.data.raw.img2dataset.parquets import holds_images, links, parquet_samples, succeeded_keys
from vlp.data.raw.img2dataset.samples import SUCCESS, failed
from vlp.data.raw.img2dataset.shards import Keys, Shard, ShardRecords, keys_of, repeated_keys
from vlp.data.raw.img2dataset.tars import tar_samples
from vlp.data.raw.source import Source, listing, read_json

FILES, TARS, PARQUET = "img2dataset", "img2dataset webdataset", "img2dataset parquet"


class Download(NamedTuple):
    """Where it lies, its format, and the numbered shards of that format, in order."""

    folder: Path
    format: str
    shards: tuple[Path, ...]


class _Seen(NamedTuple):
    """What is known of a shard before its images are read."""

    expected: int
    keys: Keys


def find_download(root: Path, split: str) -> Download | None:
    """Return what is in ``root/{split}``, or for training in ``root`` itself, if it has numbered shards.

    Raises:
        DataError: some tars are unpacked beside them, and others are not.
    """
    for folder in (root / split, root) if split == "train" else (root / split,):
        if found := _in_folder(folder):
            return found
    return None


def read_records(source: Source, download: Download, split: str) -> ShardRecords:
    """Look at the shards of a download in tars or Parquet files; what failed is counted.

    Raises:
        DataError: the table beside a tar is broken.
    """
    look = _look_at_tar if download.format == TARS else _look_at_parquet
    found = [look(source, path) for path in download.shards]
    for path in download.shards:
        source.shards.append((path.name, path.stat().st_size))
    source.found["images"] = source.found.get("images", 0) + sum(seen.expected for seen in found)
    shards = tuple(Shard(path, max(1, seen.expected)) for path, seen in zip(download.shards, found, strict=True))
    if download.format == TARS:
        _count_lost(source, download)
    read = tar_samples if download.format == TARS else parquet_samples
    return ShardRecords.of(shards, split, read, repeated_keys([seen.keys for seen in found]))


def count_failed(source: Source, folder: Path, stems: list[str]) -> None:
    """Count the links that failed, from the tables or the statistics beside shards of files."""
    for stem in stems:
        table = folder / f"{stem}.parquet"
        if table.is_file():
            _look_at_table(source, table)
        else:
            _read_statistics(source, folder / f"{stem}_stats.json")


def _in_folder(folder: Path) -> Download | None:
    names = sorted(listing(folder), key=lambda name: (len(name.partition(".")[0]), name))  # 99999 before 100000
    paths = [folder / name for name in names if name.partition(".")[0].isdecimal()]
    folders = [path for path in paths if path.name.isdecimal() and path.is_dir()]
    tars = [path for path in paths if path.suffix == ".tar"]
    tables = [path for path in paths if path.suffix == ".parquet"]
    if folders:
        packed = [tar for tar in tars if tar.with_suffix("") not in folders]
        if packed:
            raise DataError(
                f"{folder} holds folders such as {folders[0].name}/ and {packed[0].name}, which is not unpacked: "
                "unpack it as well, or move the folders away; tars are read as they are"
            )
        return Download(folder, FILES, tuple(folders))
    if tars:
        return Download(folder, TARS, tuple(tars))
    if any(map(holds_images, tables)):
        return Download(folder, PARQUET, tuple(tables))
    return None


def _look_at_tar(source: Source, tar: Path) -> _Seen:
    table = tar.with_suffix(".parquet")
    if table.is_file():
        return _look_at_table(source, table)
    _read_statistics(source, tar.with_name(f"{tar.stem}_stats.json"))
    read = partial(tar_samples, tar, skip=sys.maxsize)
    count, first, last = 0, "", ""
    for key in keys_of(read()):
        count, first, last = count + 1, min(first or key, key), max(last, key)
    return _Seen(count, Keys(first, last, lambda: keys_of(read())))


def _look_at_table(source: Source, table: Path) -> _Seen:
    """Count the links of the table beside a shard."""
    try:
        found = links(table)
    except (pa.ArrowException, OSError, ValueError) as error:
        raise DataError(f"{table} cannot be read ({error}): copy it anew or delete it; it is not needed") from error
    _count(source, found.total, found.failed, table)
    return _Seen(found.succeeded, Keys(found.first, found.last, partial(succeeded_keys, table)))


def _look_at_parquet(source: Source, path: Path) -> _Seen:
    """Count the links of a shard in Parquet; one that is damaged is named when it is read."""
    try:
        found = links(path)
    except (pa.ArrowException, OSError, ValueError):
        return _Seen(0, Keys("", "", lambda: iter(())))
    _count(source, found.total, found.failed, path)
    return _Seen(found.succeeded, Keys(found.first, found.last, partial(succeeded_keys, path)))


def _read_statistics(source: Source, path: Path) -> None:
    """Count the links of ``{shard}_stats.json``, if it is there."""
    if not path.is_file():
        return
    content = read_json(path)
    numbers = {name: value for name, value in content.items() if _is_count(value)} if isinstance(content, dict) else {}
    counts = {name: numbers[name] for name in ("failed_to_download", "failed_to_resize") if name in numbers}
    _count(source, numbers.get("count", 0), Counter(counts), path)


def _is_count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


def _count(source: Source, total: int, by_status: Counter[str], path: Path) -> None:
    if total:
        source.found["links"] = source.found.get("links", 0) + total
    for status, number in by_status.items():
        if number and status != SUCCESS:
            source.skips.add(failed(status), path.name, number)


def _count_lost(source: Source, download: Download) -> None:
    """Count the images of tables whose tar is not there."""
    there = {path.stem for path in download.shards}
    for name in sorted(listing(download.folder)):
        stem, _, suffix = name.partition(".")
        if suffix == "parquet" and stem.isdecimal() and stem not in there:
            lost = _look_at_table(source, download.folder / name)
            source.skips.add("image whose tar is not there", name, lost.expected)
