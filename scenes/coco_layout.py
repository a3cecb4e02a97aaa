"""Writes scenes in COCO's official raw layout: Karpathy's JSON and the 2014 folders (docs/official/meter.md §3.9).

Beside it lie `scenes_truth.jsonl`, one line of ground truth per image, and `scenes.json`, the request.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import random
import shutil
import time
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from scenes.draw import render
from scenes.grammar import Grammar
from scenes.levels import LEVELS
from scenes.model import Scene
from scenes.sampling import sample_splits
from scenes.statistics import Statistics
from scenes.truths import statement_records, truth_record

JPEG_QUALITY = 92
RESTVAL_SHARE = 0.25  # of the training images; in COCO 30,504 of 113,287
TRUTH_FILE = "scenes_truth.jsonl"
REQUEST_FILE = "scenes.json"
_CHUNK = 64
_Made = tuple[dict[str, Any], dict[str, Any]]  # Karpathy entry and truth record of one image


@dataclass(frozen=True)
class Request:
    """What to write: numbers of images per split, captions per image, side in pixels, seed, level of difficulty."""

    train: int = 3000
    val: int = 100
    test: int = 100
    captions: int = 2
    image_size: int = 112
    seed: int = 0
    level: str = "full"

    def __post_init__(self) -> None:
        """Raises ValueError on a number that makes no data set."""
        for name in ("train", "val", "test"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name} must not be negative, got {getattr(self, name)}")
        if self.train + self.val + self.test == 0:
            raise ValueError("nothing to write: train, val and test are all 0")
        if not 1 <= self.captions <= 8:
            raise ValueError(f"captions must be 1 to 8, got {self.captions}")
        if not 32 <= self.image_size <= 1024:
            raise ValueError(f"image_size must be 32 to 1024 pixels, got {self.image_size}")
        if self.level not in LEVELS:
            raise ValueError(f"level must be one of {', '.join(LEVELS)}, got {self.level!r}")

    def described(self) -> dict[str, Any]:
        """What is written beside the data; the level where it is not the usual one."""
        values = asdict(self)
        return values if self.level != "full" else {k: v for k, v in values.items() if k != "level"}


@dataclass(frozen=True)
class _Job:
    """One image to make: its scene, its neighbour for two-image statements, and its place in the data set."""

    imgid: int
    cocoid: int
    split: str
    scene: Scene
    other: Scene
    other_cocoid: int

    @property
    def folder(self) -> str:
        return "train2014" if self.split == "train" else "val2014"

    @property
    def filename(self) -> str:
        return f"COCO_{self.folder}_{self.cocoid:012d}.jpg"


def write_coco(root: Path, request: Request, workers: int = 1) -> bool:
    """Write the data set to `root` and return True; return False if the very same one is already there.

    The bytes depend on the request alone. `root` appears only when it is complete.

    Raises:
        FileExistsError: if `root` holds anything else.
    """
    if _already_there(root, request):
        return False
    with new_directory(root) as fresh:
        for folder in ("karpathy", "train2014", "val2014"):
            (fresh / folder).mkdir()
        images = []
        with (fresh / TRUTH_FILE).open("w", encoding="utf-8") as truth:
            for image, record in _make_all(_jobs(request), request, fresh, workers):
                images.append(image)
                truth.write(json.dumps(record) + "\n")
        karpathy = json.dumps({"images": images, "dataset": "coco"})
        (fresh / "karpathy" / "dataset_coco.json").write_text(karpathy, encoding="utf-8")
        (fresh / REQUEST_FILE).write_text(json.dumps(request.described(), indent=2) + "\n", encoding="utf-8")
    return True


def _already_there(root: Path, request: Request) -> bool:
    if not root.exists():
        return False
    if root.is_dir() and not any(root.iterdir()):
        root.rmdir()
        return False
    request_file = root / REQUEST_FILE
    found = json.loads(request_file.read_text(encoding="utf-8")) if request_file.is_file() else None
    if found == request.described():
        return True
    what = "other data" if found is None else f"scenes made for another request: {found}"
    raise FileExistsError(f"{root} already holds {what}; remove it or choose another --output")


@contextmanager
def new_directory(root: Path) -> Iterator[Path]:
    """Yield a temporary directory beside `root` that becomes `root` at the end, and vanishes on an error."""
    fresh = root.with_name(f".{root.name}.{os.getpid()}.tmp")
    fresh.mkdir(parents=True)
    try:
        yield fresh
        os.replace(fresh, root)
    finally:
        shutil.rmtree(fresh, ignore_errors=True)


def _jobs(request: Request) -> list[_Job]:
    """List the images, test first, so that test and val stay the same whatever the size of train."""
    sizes = {"train": request.train, "val": request.val, "test": request.test}
    splits = sample_splits(sizes, request.seed, LEVELS[request.level])
    jobs: list[_Job] = []
    for split, scenes in splits.items():
        first = len(jobs)
        train_only = len(scenes) - round(len(scenes) * RESTVAL_SHARE)
        for i, scene in enumerate(scenes):
            neighbour = (i + 1) % len(scenes)
            name = "restval" if split == "train" and i >= train_only else split
            jobs.append(_Job(first + i, first + i + 1, name, scene, scenes[neighbour], first + neighbour + 1))
    return jobs


def _make_all(jobs: list[_Job], request: Request, folder: Path, workers: int) -> Iterator[_Made]:
    """Yield (Karpathy entry, truth record) per image, in order, showing progress and the time left."""
    chunks = [(jobs[i : i + _CHUNK], request, folder) for i in range(0, len(jobs), _CHUNK)]
    started = said = time.monotonic()
    done = 0
    with ExitStack() as stack:
        made: Iterable[list[_Made]] = map(_make_chunk, chunks)
        if workers > 1:
            context = multiprocessing.get_context("spawn")  # fork is unsafe beside a caller's threads
            made = stack.enter_context(ProcessPoolExecutor(workers, context)).map(_make_chunk, chunks)
        for images in made:
            yield from images
            done += len(images)
            now = time.monotonic()
            if now - said >= 4:
                said, left = now, (now - started) / done * (len(jobs) - done)
                print(f"drawing scenes: {done}/{len(jobs)}, {left:.0f} s left", flush=True)


def _make_chunk(chunk: tuple[list[_Job], Request, Path]) -> list[_Made]:
    jobs, request, folder = chunk
    grammar = Grammar(Statistics(level=LEVELS[request.level]))
    return [_make(job, request, folder, grammar) for job in jobs]


def _make(job: _Job, request: Request, folder: Path, grammar: Grammar) -> _Made:
    """Draw one image, write it, and return its Karpathy entry and its truth."""
    pixels = render(job.scene, request.image_size)
    pixels.save(folder / job.folder / job.filename, quality=JPEG_QUALITY)
    rng = random.Random(f"captions/{request.seed}/{job.cocoid}")
    captions = grammar.captions(job.scene, rng, request.captions)
    texts = {job.imgid * request.captions + i: caption.text for i, caption in enumerate(captions)}
    image = karpathy_image(job.filename, job.split, job.imgid, texts)
    image = {"filepath": job.folder, **image, "cocoid": job.cocoid}
    record = {"cocoid": job.cocoid, "filepath": job.folder, "filename": job.filename, "split": job.split}
    record |= truth_record(job.scene, dict(zip(texts, captions, strict=True)), grammar.statistics, rng)
    record["statements"] = statement_records(job.scene, job.other, job.other_cocoid, rng)
    return image, record


def karpathy_image(filename: str, split: str, imgid: int, captions: Mapping[int, str]) -> dict[str, Any]:
    """An image's entry in Karpathy's JSON without what COCO adds; ``captions`` by their ``sentid``."""
    sentences = [
        {"tokens": _tokens(text), "raw": text, "imgid": imgid, "sentid": sentid} for sentid, text in captions.items()
    ]
    return {"sentids": list(captions), "filename": filename, "imgid": imgid, "split": split, "sentences": sentences}


def _tokens(text: str) -> list[str]:
    return text.lower().replace(",", "").rstrip(".").split()
