"""``python -m benchmarks.conversion``: img2dataset's shards to Arrow tables and JSON lines, in speed and memory.

Downloads of two sizes are made of small JPEGs, and converted by the commands of docs/datasets.md, each in a process of
its own, whose peak of resident memory and processor time the system (Linux) counts. Memory must not grow with the
number of images. Speed has its measure in the same run: the shards, copied file by file and synced, which nothing that
writes them anew can be faster than.
"""

from __future__ import annotations

import argparse
import io
import json
import os
import platform
import shutil
import sys
import tarfile
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from rich.table import Table

from benchmarks.photos import photo
from vlp.arguments import whole
from vlp.console import stdout_console
from vlp.files import write_json
from vlp.safe_output import make_output_safe

SHARD = 10_000  # img2dataset's own number
POOL = 64  # images that are told apart by their keys and captions alone: drawing them costs more than converting
COPY = "plain copy"
WAYS = {
    "webdataset → Arrow": ("webdataset", ("-m", "vlp.data.arrow", "cc12m")),
    "webdataset → JSON lines": ("webdataset", ("-m", "vlp.data.jsonl", "convert", "cc12m", "--binary")),
    "parquet → Arrow": ("parquet", ("-m", "vlp.data.arrow", "cc12m")),
    "parquet → JSON lines": ("parquet", ("-m", "vlp.data.jsonl", "convert", "cc12m", "--binary")),
}


class Spent(NamedTuple):
    """Seconds of the clock and of the processors, and bytes of resident memory at the peak."""

    seconds: float
    cpu_seconds: float
    peak: int


def main(argv: Sequence[str]) -> None:
    """Measure, print the table, write the JSON."""
    arguments = parse(argv)
    spent: dict[str, dict[str, Spent]] = {way: {} for way in (COPY, *WAYS)}
    size = 0
    for images in sorted(arguments.images):
        with tempfile.TemporaryDirectory(dir=arguments.folder) as folder:
            size = measure(Path(folder), images, arguments.size, spent)
    result = {**summary(spent), "settings": {"images": sorted(arguments.images), "bytes_per_image": size}}
    result["machine"] = {"processor": platform.machine(), "cores": os.cpu_count(), "pyarrow": version("pyarrow")}
    print_table(result)
    if arguments.json:
        write_json(arguments.json, result)
        print(f"written: {arguments.json}")


def parse(argv: Sequence[str]) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser("python -m benchmarks.conversion", description=__doc__)
    parser.add_argument("--images", type=whole(1), nargs="+", default=[10_000, 100_000], help="default 10000 100000")
    parser.add_argument("--size", type=whole(16), default=128, help="shorter side of the images; default 128")
    parser.add_argument("--folder", type=Path, help="where the data is made for the time of the run; default /tmp")
    parser.add_argument("--json", metavar="FILE", help="write the result here")
    return parser.parse_args(argv)


def measure(folder: Path, images: int, size: int, spent: dict[str, dict[str, Spent]]) -> int:
    """Make downloads of ``images`` images in ``folder`` and convert them each way; the mean bytes of an image."""
    pool = [photo(size, np.random.default_rng(number)) for number in range(POOL)]
    for form, write in (("webdataset", write_tars), ("parquet", write_parquets)):
        print(f"make {images} images as {form}", flush=True)
        write(folder / form, images, pool)
    spent[COPY][str(images)] = copied(folder / "webdataset", folder / "copy")
    for way, (form, command) in WAYS.items():
        print(f"{images} images: {way}", flush=True)
        output = folder / "output"
        spent[way][str(images)] = run([*command, "--root", str(folder / form), "--output", str(output)])
        shutil.rmtree(output)
    return round(sum(map(len, pool)) / POOL)


def shards(images: int, pool: Sequence[bytes]) -> Iterator[tuple[str, list[tuple[str, str, bytes]]]]:
    """Each shard's name and its samples: key, caption, image."""
    for first in range(0, images, SHARD):
        name = f"{first // SHARD:05d}"
        rows = range(first, min(first + SHARD, images))
        yield name, [(f"{name}{i % SHARD:04d}", f"a photo of thing number {i}", pool[i % len(pool)]) for i in rows]


def write_tars(folder: Path, images: int, pool: Sequence[bytes]) -> None:
    """Tar shards, and the table of the links beside each."""
    folder.mkdir()
    for name, samples in shards(images, pool):
        with tarfile.open(folder / f"{name}.tar", "w") as archive:
            for key, caption, image in samples:
                record = json.dumps({"caption": caption, "key": key, "status": "success"})
                for suffix, content in (("jpg", image), ("json", record.encode()), ("txt", caption.encode())):
                    info = tarfile.TarInfo(f"{key}.{suffix}")
                    info.size = len(content)
                    archive.addfile(info, io.BytesIO(content))
        keys = [key for key, _, _ in samples]
        pq.write_table(pa.table({"key": keys, "status": ["success"] * len(keys)}), folder / f"{name}.parquet")


def write_parquets(folder: Path, images: int, pool: Sequence[bytes]) -> None:
    """Parquet shards in row groups of 100 rows, as img2dataset writes them."""
    folder.mkdir()
    for name, samples in shards(images, pool):
        keys, captions, contents = zip(*samples, strict=True)
        status = ["success"] * len(keys)
        table = pa.table({"key": keys, "caption": captions, "status": status, "jpg": contents})
        pq.write_table(table, folder / f"{name}.parquet", row_group_size=100)


def copied(source: Path, target: Path) -> Spent:
    """Copy the files of a folder, each synced, as the converters sync theirs."""
    started, cpu = time.perf_counter(), time.process_time()
    target.mkdir()
    for path in sorted(source.iterdir()):
        with open(path, "rb") as old, open(target / path.name, "wb") as new:
            shutil.copyfileobj(old, new, 1 << 20)
            new.flush()
            os.fsync(new.fileno())
    spent = Spent(time.perf_counter() - started, time.process_time() - cpu, 0)
    shutil.rmtree(target)
    return spent


def run(command: Sequence[str]) -> Spent:
    """Run a module, ``-m name arguments…``, or code, ``-c code``, in a Python process of its own.

    Raises:
        SystemExit: it fails.
    """
    started = time.perf_counter()
    with tempfile.NamedTemporaryFile("r") as peak:
        arguments = [sys.executable, "-c", _WATCHED, peak.name, *command]
        process = os.posix_spawn(sys.executable, arguments, os.environ, file_actions=_QUIET)
        _, status, usage = os.wait4(process, 0)
        if status:
            sys.exit(f"error: python {' '.join(command)} failed")
        return Spent(time.perf_counter() - started, usage.ru_utime + usage.ru_stime, int(peak.read()) << 10)


_QUIET = [(os.POSIX_SPAWN_OPEN, 1, os.devnull, os.O_WRONLY, 0)]
# Linux counts the memory of the process that started another in the other's ru_maxrss; VmHWM, in kB, is its own.
_WATCHED = """
import pathlib, re, runpy, sys
peak, kind = sys.argv.pop(1), sys.argv.pop(1)
try:
    exec(sys.argv[1]) if kind == "-c" else runpy.run_module(sys.argv.pop(1), run_name="__main__", alter_sys=True)
finally:
    status = pathlib.Path("/proc/self/status").read_text()
    pathlib.Path(peak).write_text(re.search(r"VmHWM:\\s*(\\d+)", status)[1])
"""


def summary(spent: Mapping[str, Mapping[str, Spent]]) -> dict[str, Any]:
    """By way and number of images: images a second, of the processors, the ratio to the copy, the peak in MB."""
    copies = spent[COPY]
    numbers: dict[str, dict[str, dict[str, float]]] = {}
    for way, by_images in spent.items():
        for images, found in by_images.items():
            entry = {
                "images_per_second": round(int(images) / found.seconds, 1),
                "images_per_cpu_second": round(int(images) / found.cpu_seconds, 1),
                "times_a_plain_copy": round(found.seconds / copies[images].seconds, 2),
            }
            peak = {"peak_mb": round(found.peak / 1e6, 1)} if found.peak else {}
            numbers.setdefault(way, {})[images] = {**entry, **peak}
    return {"ways": numbers}


def print_table(result: Mapping[str, Any]) -> None:
    """A row for each way and number of images."""
    size = result["settings"]["bytes_per_image"]
    grid = Table(title=f"images of {size / 1e3:.0f} kB, shards of {SHARD:,}", title_justify="left")
    heads = ("", "images", "images per second", "images per CPU second", "times a plain copy", "peak memory, MB")
    for head in heads:
        grid.add_column(head, justify="right" if head else "left")
    for way, by_images in result["ways"].items():
        for images, entry in by_images.items():
            rates = f"{entry['images_per_second']:,.0f}", f"{entry['images_per_cpu_second']:,.0f}"
            peak = f"{entry['peak_mb']:.0f}" if "peak_mb" in entry else ""
            grid.add_row(way, f"{int(images):,}", *rates, f"{entry['times_a_plain_copy']:.1f}", peak)
    stdout_console().print(grid)


if __name__ == "__main__":
    make_output_safe()
    try:
        main(sys.argv[1:])
    except OSError as error:
        sys.exit(f"error: {error}")
