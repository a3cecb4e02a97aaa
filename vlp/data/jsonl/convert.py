"""Run one conversion: write the files of a data set into a folder that appears when the last of them is complete."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from rich.markup import escape

from vlp.console import stdout_console
from vlp.data.conversion.output import held_output
from vlp.data.conversion.progress import Progress
from vlp.data.conversion.skips import Skips, merge_skips
from vlp.data.conversion.summary import print_omissions, print_written
from vlp.data.errors import DataError
from vlp.data.jsonl.held_out import HeldOut
from vlp.data.jsonl.plans import GENOME, PLANS, WITHOUT_REFCOCO, Plan
from vlp.data.jsonl.writer import RowOptions, ShardRecord, write_shard
from vlp.data.raw.source import Source
from vlp.data.raw.vg_objects import read_coco_ids
from vlp.files import read_json, write_json

SHARDS = 32
_FILE = re.compile(r".+-\d{5}-of-\d{5}\.jsonl")
_COUNTS = ("rows", "captions", "boxes", "images", "bytes")


@dataclass
class FilesManifest:
    """What a conversion wrote; it lies beside the folder of the files as ``{dataset}.manifest.json``.

    ``kind`` is "captions" or "regions"; ``image_root`` the folder that rows name their images from, None if they hold
    them; ``plan`` is what ``--resume`` compares.
    """

    dataset: str
    kind: str
    source: str
    layout: str
    seed: int
    image_root: str | None
    plan: str
    found: dict[str, int] = field(default_factory=dict)
    skipped: dict[str, Any] = field(default_factory=dict)
    not_written: dict[str, str] = field(default_factory=dict)
    files: dict[str, ShardRecord] = field(default_factory=dict)

    def all_skips(self) -> Skips:
        """Return what was left out while the annotations were read and while each file was written."""
        return merge_skips([self.skipped, *(record.skipped for record in self.files.values())])

    def total(self) -> ShardRecord:
        """Return the counts of all files together."""
        return ShardRecord(**{name: sum(getattr(file, name) for file in self.files.values()) for name in _COUNTS})


@dataclass(frozen=True)
class Options:
    """Options of a conversion.

    ``image_root``: folder from which rows name their images, by default the root of the raw download. ``binary``: rows
    hold the images themselves. ``exclude``: lists that name images to be kept out, and folders of RefCOCO, whose
    images of val and test are. ``image_captions``: rows of COCO's objects have the captions of the image as well.
    ``resume``: keep the files that an interrupted run has finished.
    """

    image_root: str | None = None
    shards: int = SHARDS
    binary: bool = False
    exclude: Sequence[str] = ()
    image_captions: bool = False
    seed: int = 0
    verify_images: bool = False
    resume: bool = False


def convert(
    name: str, root: str | Path, output: str | Path, options: Options | None = None, quiet: bool = False
) -> FilesManifest:
    """Convert the raw download of data set ``name`` under ``root`` into files of JSON lines, ``{output}/{name}/*``.

    The same files and options give the same bytes. The folder appears when the last file is complete; until then an
    older one stays as it is.

    Returns:
        The manifest, as it was saved to ``{output}/{name}.manifest.json``.

    Raises:
        DataError: raw files are missing or not in the expected layout (docs/data.md), no row could be written, the
            folder of the files holds other ones, or ``output`` is no folder to write to or held by another conversion
            of this data set.
        OSError: the disk is full.
    """
    if name not in PLANS:
        raise ValueError(f"unknown dataset {name!r}; known: {', '.join(PLANS)}")
    options = options or Options()
    if options.shards < 1:
        raise DataError(f"--shards {options.shards}: at least one file must be written")
    if options.image_captions and not name.startswith("coco_objs"):
        raise DataError(f"--image-captions: {name} has no captions of whole images; coco_objs has")
    if name in WITHOUT_REFCOCO and not any(map(os.path.isdir, options.exclude)):
        raise DataError(f"{name} has no image that RefCOCO evaluates on: add --exclude and the folder of refcoco+")
    source, folder = Source(Path(root), options.seed), Path(output)
    if not source.root.is_dir():
        raise DataError(f"--root {root} is not a directory")
    with held_output(folder, name):
        _refuse_others(folder / name)
        return _convert(name, source, folder, options, quiet)


def make_files(name: str, root: str | Path, output: str | Path, options: Options) -> FilesManifest:
    """Convert data set ``name`` as :func:`convert` does and print what was written, and how a recipe reads it."""
    manifest = convert(name, root, output, options)
    console, total = stdout_console(), manifest.total()
    counted = {**manifest.found, **({"boxes written": total.boxes} if manifest.kind == "regions" else {})}
    heads = ("files", "rows", "captions")
    print_written(name, str(output), {f"{name}/ ({len(manifest.files)})": total}, counted, console, heads)
    for line in recipe(manifest, Path(os.path.abspath(output)) / name):
        console.print(escape(f"{name}, in the recipe: {line}"), highlight=False, soft_wrap=True)
    print_omissions(name, manifest.not_written, manifest.all_skips(), console)
    return manifest


def recipe(manifest: FilesManifest, folder: Path) -> list[str]:
    """The keys of a recipe that read the files in ``folder``."""
    stream, key = ("regions", "train_file_regions") if manifest.kind == "regions" else ("images", "train_file")
    binary = manifest.image_root is None
    image = "binary" if binary else "image_rpath"
    lines = [
        f"{key}: [{folder}]",
        f"{stream}: {{image_key: {image}, is_image_rpath: {not binary}, caption_key: caption, tokenized: False}}",
    ]
    if not binary:
        lines.append(f"image_root: {manifest.image_root}")
    if stream == "images" or manifest.dataset in WITHOUT_REFCOCO:
        rows = manifest.total().rows
        lines.append(f"train_dataset_size: {rows} rows, and those of the other files of {manifest.kind}")
    return lines


def _convert(name: str, source: Source, folder: Path, options: Options, quiet: bool) -> FilesManifest:
    held_out = HeldOut.of(list(map(Path, options.exclude)))
    if options.exclude and name in GENOME:
        held_out = replace(held_out, coco_ids=read_coco_ids(source))
    plan = PLANS[name](source)
    if not plan.parts:
        reasons = "; ".join(f"{what}: {why}" for what, why in source.not_written.items())
        raise DataError(f"nothing to convert for {name} under {source.root}: {reasons}")
    if plan.archived and not options.binary:
        raise DataError(
            f"{source.root} holds images in archives ({source.layout}), so that rows must hold them: add --binary, or "
            "unpack each tar into a folder of its number (docs/data.md)"
        )
    plan = replace(plan, parts=tuple(map(held_out.taken_from, plan.parts)))
    image_root = None if options.binary else Path(os.path.abspath(options.image_root or source.root))
    manifest = FilesManifest(
        name,
        "captions" if plan.rows else "regions",
        str(source.root.resolve()),
        source.layout,
        options.seed,
        None if image_root is None else str(image_root),
        _fingerprint(source, plan, options, image_root),
        source.found,
        dict(source.skips),
        source.not_written,
    )
    partial, record = folder / f".{name}.partial", folder / f".{name}.partial.json"
    manifest.files = _finished(partial, record, manifest) if options.resume else {}
    if not manifest.files:
        shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(exist_ok=True)
    rows = RowOptions(image_root, options.image_captions, options.verify_images)
    with Progress(name, plan.total, quiet, unit="images") as progress:
        for file, part in _shares(name, plan.total, options.shards).items():
            if file in manifest.files:
                progress.advance(part[1] - part[0])
                continue
            seed = f"{options.seed}/{file}"
            manifest.files[file] = write_shard(plan, part, partial / file, rows, seed, progress.advance)
            write_json(record, asdict(manifest))
    try:
        _refuse_empty(manifest)
        for path in partial.iterdir():
            if path.name not in manifest.files:  # a run that was killed left it
                path.unlink()
        _put_in_place(partial, folder / name)
        write_json(folder / f"{name}.manifest.json", asdict(manifest))
    finally:
        shutil.rmtree(partial, ignore_errors=True)
        record.unlink(missing_ok=True)
    return manifest


def _shares(name: str, total: int, shards: int) -> dict[str, tuple[int, int]]:
    """File -> the records [first, last) that go into it; as many files as records at most."""
    shards = max(1, min(shards, total))
    ends = [total * number // shards for number in range(shards + 1)]
    return {f"{name}-{i:05d}-of-{shards:05d}.jsonl": (ends[i], ends[i + 1]) for i in range(shards)}


def _fingerprint(source: Source, plan: Plan, options: Options, image_root: Path | None) -> str:
    kept = asdict(replace(options, resume=False, image_root=str(image_root), exclude=sorted(options.exclude)))
    content = [str(source.root.resolve()), source.layout, plan.total, kept]
    if source.shards:
        content.append(source.shards)
    return hashlib.sha256(json.dumps(content).encode()).hexdigest()


def _finished(partial: Path, record: Path, manifest: FilesManifest) -> dict[str, ShardRecord]:
    """Return the files of an interrupted run of the same plan that are still as they were written."""
    if not record.is_file():
        return {}
    try:
        old = read_json(record)
        plan, files = old["plan"], {name: ShardRecord(**entry) for name, entry in old["files"].items()}
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise DataError(f"{record} is broken ({error!r}); run without --resume to convert everything again") from error
    if plan != manifest.plan:
        raise DataError(
            f"--resume: the raw data or the options differ from the interrupted run of {manifest.dataset} in "
            f"{partial.parent}; run without --resume to convert everything again"
        )
    return {name: entry for name, entry in files.items() if _unchanged(partial / name, entry)}


def _unchanged(path: Path, record: ShardRecord) -> bool:
    return path.is_file() and path.stat().st_size == record.bytes


def _refuse_others(folder: Path) -> None:
    """Raise a DataError if ``folder`` holds what no conversion wrote, since it is replaced."""
    if folder.is_dir():
        others = sorted(entry.name for entry in folder.iterdir() if not _FILE.fullmatch(entry.name))
    else:
        others = [folder.name] if folder.exists() else []
    if others:
        raise DataError(f"{folder} holds {others[0]!r}, which no conversion wrote: move it, or name another --output")


def _put_in_place(fresh: Path, folder: Path) -> None:
    """Give ``fresh`` the name ``folder``; an older folder of that name goes."""
    old = folder.with_name(f".{folder.name}.old")
    shutil.rmtree(old, ignore_errors=True)
    if folder.exists():
        os.rename(folder, old)
    os.rename(fresh, folder)
    shutil.rmtree(old, ignore_errors=True)


def _refuse_empty(manifest: FilesManifest) -> None:
    if not manifest.total().rows:
        reasons: Mapping[str, Any] = manifest.all_skips()
        counts = ", ".join(f"{reason} ({entry['count']})" for reason, entry in reasons.items()) or "no images"
        raise DataError(f"{manifest.dataset}: not one row could be written from {manifest.source}: {counts}")
