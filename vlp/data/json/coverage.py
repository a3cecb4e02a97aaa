"""How many of the images that a run's lists name are there: looked at before it starts, kept beside its results."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from itertools import islice
from pathlib import Path
from typing import NamedTuple

from vlp.data.errors import DataError
from vlp.data.images import ImageError
from vlp.data.json.dataset import JsonDataset
from vlp.data.json.images import ImageRoot
from vlp.data.published import LISTS, REPORT, coverage
from vlp.files import write_json

LOOKED_AT = 1000  # rows of a list whose images a run looks for before it starts
_THREADS, _BATCH, _EXAMPLES = 16, 4096, 5


class Named(NamedTuple):
    """An image as a row names it, and the folder from which."""

    root: ImageRoot
    name: str
    where: str


@dataclass
class Coverage:
    """The images of a list: how many were looked at, how many cannot be read, and what is wrong with the first five."""

    looked_at: int = 0
    missing: int = 0
    examples: list[str] = field(default_factory=list)

    @property
    def share(self) -> float:
        """Of the images that were looked at, those that are there."""
        return 1 - self.missing / self.looked_at if self.looked_at else 1.0


def look_for(images: Iterable[Named]) -> Coverage:
    """Look for images, several at a time; one that is empty or lies outside of its root counts as missing, too."""
    coverage, images = Coverage(), iter(images)
    with ThreadPoolExecutor(_THREADS) as pool:
        while batch := list(islice(images, _BATCH)):
            for problem in pool.map(_problem, batch):
                coverage.looked_at += 1
                if problem is not None:
                    coverage.missing += 1
                    coverage.examples = [*coverage.examples, problem][:_EXAMPLES]
    return coverage


def store_coverage(sets: Mapping[str, JsonDataset], folder: Path, looked_at: int = LOOKED_AT) -> None:
    """Write ``folder/data.json``: of each list of a run its split, its rows, how many of its images are there,
    and which share of the published rows it has.

    Of a list ``looked_at`` rows are looked at, evenly spaced. One process calls it, before training; a list that lacks
    images is a notice on stderr.

    Args:
        sets: split -> data set, as :attr:`JsonDataModule.sets`.
    """
    found = [
        (split, path, rows, look_for(_images(dataset, number, _spaced(rows, looked_at))))
        for split, dataset in sets.items()
        for number, path in enumerate(dataset.rows.paths)
        for rows in [dataset.rows.of_list(number)]
    ]
    entries = [
        {
            **{"split": split, "list": str(path), "rows": len(rows)},
            **{**asdict(images), "share": images.share},
            **coverage(LISTS, [path.stem], len(rows)),
        }
        for split, path, rows, images in found
    ]
    write_json(folder / REPORT, {"lists": entries})
    for _, path, _, images in found:
        if images.missing:
            counts = f"{images.missing} of {images.looked_at} images that were looked for are missing"
            advice = "`python -m vlp.data.json check` names them"
            print(f"notice: {path}: {counts} ({images.examples[0]}); {advice}", file=sys.stderr)


def _problem(image: Named) -> str | None:
    try:
        path = image.root.find(image.name, image.where)
        return None if path.stat().st_size else f"{path}: an empty file"
    except (ImageError, DataError) as error:
        return str(error)
    except OSError as error:
        return f"{image.name}: {error.strerror or error}"


def _images(dataset: JsonDataset, number: int, rows: Sequence[int]) -> Iterator[Named]:
    """Yield the images of ``rows``, which belong to list ``number``."""
    for index in rows:
        row, where = dataset.rows[index], dataset.rows.describe(index)
        root = dataset.roots[number][dataset.root_key(row)]
        yield from (Named(root, name, where) for name in dataset.names(row))


def _spaced(rows: range, number: int) -> Sequence[int]:
    """Take ``number`` of ``rows``, evenly spaced; all if there are no more."""
    return rows if len(rows) <= number else [rows[i * len(rows) // number] for i in range(number)]
