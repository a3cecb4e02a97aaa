"""What all data sets of JSON lists share: rows, images under their roots, the epoch, the key of every draw.

Source: docs/official/albef.md §3.
"""

from __future__ import annotations

import random
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import torch
from PIL import Image
from torch.utils.data import Dataset

from vlp.data.draws import SampleKey
from vlp.data.errors import DataError
from vlp.data.images import ImageError
from vlp.data.json.fields import Row, RowKind
from vlp.data.json.images import ImageRoot
from vlp.data.json.rows import JsonRows
from vlp.data.json.transforms import ImageTransform
from vlp.data.read_guard import ReadGuard

Sample = dict[str, Any]
_ADVICE = (
    "`python -m vlp.data.json check` says which images of a list are missing or broken: correct the folder that their "
    "names start from, get them again, or take their rows out"
)
_LOOKED_FOR = 50  # images of a list that are looked for before a run starts


class Roots:
    """Where the images of lists lie: a folder per source of a row, or each list's own folder."""

    def __init__(self, folders: Mapping[str, str], outside: bool = False) -> None:
        """
        Args:
            folders: configuration key -> folder; "" is the folder of the list that names an image.
            outside: whether images may lie elsewhere (``allow_outside_root``).
        """
        self.folders, self.outside = folders, outside

    def of(self, path: Path) -> dict[str, ImageRoot]:
        """The root of each configuration key, of the list ``path``.

        Raises:
            DataError: one is no folder.
        """
        return {key: ImageRoot(folder or path.parent, key, self.outside) for key, folder in self.folders.items()}


class JsonDataset(Dataset[Sample]):
    """The rows of some lists, one list after the other; a subclass says which kind, and what a sample holds.

    A sample has ``images``, a list of float tensors (3, res, res); ``dataset``, the name of its list; ``index``, its
    row there, from 0; and what :meth:`fields` gives.

    In training an image that cannot be read is never replaced at random: the sample is the next row that can be, and
    :class:`ReadGuard` counts, logs and limits such replacements. In an evaluation it ends the run. All draws of a
    sample come from a generator keyed by (seed, epoch, list, row); ``set_epoch`` reaches loader workers that already
    run.
    """

    kind: ClassVar[RowKind]
    training: ClassVar[bool]

    def __init__(self, paths: Sequence[str | Path], roots: Roots, transform: ImageTransform, seed: int = 0) -> None:
        """
        Raises:
            DataError: a list is missing or broken, names an image outside of its root, or images that are not there at
                all.
        """
        self.roots = [roots.of(Path(path)) for path in paths]
        self.rows = JsonRows(paths, self.kind, across=not self.training, complaint=self._names_outside)
        self.transform, self.seed = transform, seed
        self.guards = {name: ReadGuard(name, strict=not self.training, advice=_ADVICE) for name in self.rows.names}
        for number, path in enumerate(self.rows.paths):
            self._look_for_images(number, path)
        self._epoch = torch.zeros((), dtype=torch.int64).share_memory_()

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> Sample:
        key = self.key(index)
        rng = key.rng("draws")
        index, row, seen = self.read(index, rng)
        place = self.rows.place(index)
        return {
            **seen,
            **self.fields(index, row, rng),
            "dataset": place.dataset,
            "index": place.row,
            "_key": key,
        }

    def key(self, index: int) -> SampleKey:
        """The key of all draws of sample ``index``.

        Raises:
            IndexError: there is no such sample.
        """
        if not 0 <= index < len(self):
            raise IndexError(f"sample {index} of {len(self)}")
        return SampleKey(self.seed, int(self._epoch), *self.rows.place(index))

    def set_epoch(self, epoch: int) -> None:
        """Make the draws those of ``epoch``."""
        self._epoch.fill_(epoch)

    def captions(self, row: Row) -> list[str]:
        """Every text of a row, as samples have it, in a data set of image-text pairs."""
        raise NotImplementedError

    def names(self, row: Row) -> list[str]:
        """The image files of a row."""
        return [row["image"]]

    def root_key(self, row: Row) -> str:
        """The configuration key of the folder that a row's images lie in."""
        return "image_root"

    def fields(self, index: int, row: Row, rng: random.Random) -> Sample:
        """What a sample holds beside its images; random draws are taken from ``rng``."""
        raise NotImplementedError

    def view(self, row: Row, images: Iterable[Image.Image], rng: random.Random) -> Sample:
        """What a sample shows of a row's decoded images: ``images``, and what depends on how they are shown.

        Raises:
            ImageError: an image does not serve.
        """
        return {"images": [self.transform(image, rng) for image in images]}

    def read(self, index: int, rng: random.Random) -> tuple[int, Row, Sample]:
        """Read the images of row ``index``.

        Returns:
            The row that was read (``index``, or a later one if its image is broken), its content and its :meth:`view`.

        Raises:
            DataError: see :class:`ReadGuard`, or an image lies outside of its root.
        """
        for _ in range(len(self)):
            row, where = self.rows[index], self.rows.describe(index)
            guard = self.guards[self.rows.place(index).dataset]
            root = self.roots[self.rows.list_of(index)][self.root_key(row)]
            try:
                seen = self.view(row, (root.read(name, where) for name in self.names(row)), rng)
            except ImageError as error:
                guard.failure(where, error)
                index = (index + 1) % len(self)
            else:
                guard.success()
                return index, row, seen
        raise DataError(f"no image of {', '.join(map(str, self.rows.paths))} can be read")

    def _names_outside(self, number: int, row: Row) -> str | None:
        root = self.roots[number][self.root_key(row)]
        return next(filter(None, map(root.complaint, self.names(row))), None)

    def _look_for_images(self, number: int, path: Path) -> None:
        """Refuse a list of which not one of some images, evenly spread, is there: its root is a wrong one."""
        numbers = self.rows.of_list(number)
        for index in numbers[:: -(-len(numbers) // _LOOKED_FOR)]:
            row = self.rows[index]
            root = self.roots[number][self.root_key(row)]
            if any(root.has(name) for name in self.names(row)):
                return
        example = root.path(self.names(row)[0])
        raise DataError(
            f"{path}: not one of the images that were looked for is there, such as {example}; set {root.key} to the "
            "folder that the image names start from"
        )
