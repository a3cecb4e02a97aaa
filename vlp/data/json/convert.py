"""Run one conversion: write the lists of a data set beside each other, and put them in place together."""

from __future__ import annotations

import json
import os
import shutil
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from rich.markup import escape

from vlp.console import stdout_console
from vlp.data.conversion.output import held_output
from vlp.data.conversion.progress import Progress
from vlp.data.conversion.skips import Skips, merge_skips
from vlp.data.conversion.summary import print_omissions, print_written
from vlp.data.errors import DataError
from vlp.data.json.answers import read_answers
from vlp.data.json.plans import PLANS, JsonList, Plan
from vlp.data.json.writer import ListRecord, write_list
from vlp.data.json_stream import iter_json_list
from vlp.data.raw.source import Source
from vlp.files import atomic_open, regular, write_json

ANSWERS = "answer_list.json"


@dataclass
class ListsManifest:
    """What a conversion wrote; it lies beside the lists as ``{dataset}.manifest.json``.

    ``image_root`` is the folder that the image names start from; ``root_key`` is the recipes' key for it.
    """

    dataset: str
    source: str
    layout: str
    seed: int
    image_root: str
    root_key: str
    found: dict[str, int] = field(default_factory=dict)
    skipped: dict[str, Any] = field(default_factory=dict)
    not_written: dict[str, str] = field(default_factory=dict)
    lists: dict[str, ListRecord] = field(default_factory=dict)
    answers: int | None = None
    copies: tuple[str, ...] = ()
    references: tuple[str, ...] = ()

    def all_skips(self) -> Skips:
        """Return what was left out while the annotations were read and while each list was written."""
        return merge_skips([self.skipped, *(record.skipped for record in self.lists.values())])


def convert(
    name: str,
    root: str | Path,
    output: str | Path,
    *,
    image_root: str | Path | None = None,
    answer_list: str | Path | None = None,
    seed: int = 0,
    verify_images: bool = False,
    quiet: bool = False,
) -> ListsManifest:
    """Convert the raw download of data set ``name`` under ``root`` into JSON lists under ``output``.

    The same files and seed give the same bytes. All lists of a data set appear together when the last is complete;
    until then older ones stay as they are.

    Args:
        image_root: folder from which the lists name their images; without it ``root``, or for SNLI-VE the folder of
            its images, as officially.
        answer_list: VQA's candidates from this file instead of those made from the answers of train and val.
        verify_images: decode every image and leave out the items of those that do not decode.
        quiet: no progress on stderr.

    Returns:
        The manifest, as it was saved to ``{output}/{name}.manifest.json``.

    Raises:
        DataError: raw files are missing or not in the expected layout (docs/data.md), no item could be written, or
            ``output`` is no folder to write to or held by another conversion of this data set.
        OSError: the disk is full.
    """
    if name not in PLANS:
        raise ValueError(f"unknown dataset {name!r}; known: {', '.join(PLANS)}")
    source, folder = Source(Path(root), seed), Path(output)
    if not source.root.is_dir():
        raise DataError(f"--root {root} is not a directory")
    given = None if answer_list is None else _given_answers(Path(answer_list))
    with held_output(folder, name):
        plan = PLANS[name](source)
        if not plan.lists:
            reasons = "; ".join(f"{what}: {why}" for what, why in source.not_written.items())
            raise DataError(f"nothing to convert for {name} under {source.root}: {reasons}")
        images = Path(os.path.abspath(source.root / plan.images if image_root is None else image_root))
        manifest = ListsManifest(
            name, str(source.root.resolve()), source.layout, seed, str(images), plan.root_key, copies=plan.copies
        )
        with _together(folder, name) as fresh:
            with Progress(name, sum(made.total for made in plan.lists), quiet, unit="images") as progress:
                for made in plan.lists:
                    record = write_list(made, fresh, images, verify_images, progress.advance)
                    manifest.lists[made.name] = record
            manifest.found, manifest.not_written = source.found, source.not_written
            manifest.skipped = dict(source.skips)
            _refuse_empty(manifest)
            _write_answers(fresh, plan, given, manifest)
            references = [_write_references(fresh, made) for made in plan.lists if made.references is not None]
            manifest.references = tuple(references)
            for copied in plan.copies:
                _copy(source.root / copied, fresh / copied)
            write_json(fresh / f"{name}.manifest.json", asdict(manifest))
    return manifest


def make_lists(name: str, root: str | Path, output: str | Path, **options: Any) -> ListsManifest:
    """Convert data set ``name`` as :func:`convert` does and print what was written and what was left out."""
    manifest = convert(name, root, output, **options)
    console = stdout_console()
    print_written(name, str(output), manifest.lists, manifest.found, console, ("list", "items", "texts"))
    also = [
        *([f"{ANSWERS} ({manifest.answers:,} candidates)"] if manifest.answers is not None else []),
        *manifest.copies,
        *manifest.references,
    ]
    if also:
        console.print(escape(f"{name}, also written: {', '.join(also)}"), highlight=False, soft_wrap=True)
    line = f"{name}, in the recipe: {manifest.root_key}: {manifest.image_root}"
    console.print(escape(line), highlight=False, soft_wrap=True)
    print_omissions(name, manifest.not_written, manifest.all_skips(), console)
    return manifest


def _given_answers(path: Path) -> list[str]:
    """Read a list of candidates, such as the official one of 3,128 answers."""
    answers = read_answers(path)
    for answer, count in Counter(answers).items():
        if count > 1:
            raise DataError(f"{path} holds {answer!r} twice: delete one of them, since every candidate is scored")
    return answers


def _write_answers(folder: Path, plan: Plan, given: list[str] | None, manifest: ListsManifest) -> None:
    """Write the candidates of VQA; a data set that has none gets none."""
    answers = plan.answers if given is None else given
    if manifest.dataset != "vqa":
        return
    if not answers:
        manifest.not_written[ANSWERS] = "no answer is given nine times in train and val; or name one by --answer-list"
        return
    with atomic_open(folder / ANSWERS) as handle:
        handle.write(json.dumps(answers, ensure_ascii=False, indent=0).encode() + b"\n")
    manifest.answers = len(answers)


def _write_references(folder: Path, made: JsonList) -> str:
    """Write the captions of a list's images in COCO's form; return the file's name."""
    assert made.references is not None
    images, annotations = [], list[dict[str, Any]]()
    for item in iter_json_list(folder / made.name):
        images.append({"id": item["image_id"], "file_name": item["image"]})
        for caption in item["caption"]:
            annotations.append({"id": len(annotations), "image_id": item["image_id"], "caption": caption})
    with atomic_open(folder / made.references) as handle:
        content = {"images": images, "annotations": annotations}
        handle.write(json.dumps(content, ensure_ascii=False).encode() + b"\n")
    return made.references


def _copy(source: Path, target: Path) -> None:
    with open(regular(source), "rb") as old, atomic_open(target) as new:
        shutil.copyfileobj(old, new)


@contextmanager
def _together(folder: Path, name: str) -> Iterator[Path]:
    """Yield a folder in ``folder`` whose files go to their places at the end, the manifest last; none on an error."""
    fresh = folder / f".{name}.partial"
    shutil.rmtree(fresh, ignore_errors=True)  # of a run that was killed
    fresh.mkdir()
    try:
        yield fresh
        files = sorted(path.relative_to(fresh) for path in fresh.rglob("*") if path.is_file())
        for file in sorted(files, key=lambda file: file.name.endswith(".manifest.json")):
            (folder / file).parent.mkdir(exist_ok=True)
            os.replace(fresh / file, folder / file)
    finally:
        shutil.rmtree(fresh, ignore_errors=True)


def _refuse_empty(manifest: ListsManifest) -> None:
    if not any(record.rows for record in manifest.lists.values()):
        reasons = manifest.all_skips()
        counts = ", ".join(f"{reason} ({entry['count']})" for reason, entry in reasons.items()) or "no images"
        raise DataError(f"{manifest.dataset}: not one item could be written from {manifest.source}: {counts}")
