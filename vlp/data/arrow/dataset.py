"""What all Arrow datasets share: the flat index, reading images, the epoch, the key of every draw.

Source: docs/official/meter.md §3.3.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Any, Protocol

import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import Dataset

from vlp.data.arrow.registry import DatasetSpec, Split
from vlp.data.arrow.tables import ArrowTables
from vlp.data.draws import SampleKey
from vlp.data.errors import DataError
from vlp.data.images import ImageError, decode_image
from vlp.data.read_guard import ReadGuard

Sample = dict[str, Any]


class Transform(Protocol):
    """An image transform of ``vlp.data.transforms``: its input mode, and PIL image -> float tensor (3, H, W).

    An opaque image may come as RGB, whatever the mode.
    """

    mode: str

    def __call__(self, image: Image.Image, rng: random.Random | None) -> Tensor: ...


class ArrowDataset(Dataset[Sample]):
    """Samples of one dataset key and split. Sample j is text j of the tables (row j with ``image_only``).

    An image that cannot be read is never replaced at random: the sample is the first one of the next row, and
    :class:`ReadGuard` counts, logs and limits such replacements. All draws of a sample come from a generator keyed by
    (seed, epoch, dataset key, index); ``set_epoch`` reaches loader workers that are already running.
    """

    image_columns: tuple[str, ...] = ("image",)

    def __init__(
        self,
        spec: DatasetSpec,
        split: Split,
        tables: ArrowTables,
        transforms: Sequence[Transform],
        seed: int = 0,
        image_only: bool = False,
    ) -> None:
        if not transforms:
            raise ValueError(f"dataset {spec.key}: at least one image transform is needed")
        self.spec, self.split, self.tables, self.transforms = spec, split, tables, list(transforms)
        self.seed, self.image_only = seed, image_only
        self.identify = False  # True: a caption sample says which file its image is (file_digest, origin)
        tables.require(spec.kind, labelled=split != "test")
        self.guard = ReadGuard(f"{spec.key} ({split})", strict=split != "train")
        # Only transparency makes a difference to an RGBA transform, which costs a third more than an RGB one.
        self._mode = None if any(transform.mode == "RGBA" for transform in transforms) else "RGB"
        self._epoch = torch.zeros((), dtype=torch.int64).share_memory_()

    def __len__(self) -> int:
        return self.tables.num_rows if self.image_only else self.tables.num_texts

    def __getitem__(self, index: int) -> Sample:
        key = self.key(index)
        return {**self.build(index, key.rng("draws")), "_key": key}

    def key(self, index: int) -> SampleKey:
        """The key of all draws of sample ``index``.

        Raises:
            IndexError: there is no such sample.
        """
        if not 0 <= index < len(self):
            raise IndexError(f"sample {index} of {len(self)}")
        return SampleKey(self.seed, int(self._epoch), self.spec.key, index)

    def build(self, index: int, rng: random.Random) -> Sample:
        """Return sample ``index`` of the dataset; random draws are taken from ``rng``."""
        raise NotImplementedError

    def set_epoch(self, epoch: int) -> None:
        """Make the draws those of ``epoch``."""
        self._epoch.fill_(epoch)

    def row(self, index: int) -> int:
        """Return the row of sample ``index``."""
        return index if self.image_only else int(self.tables.rows[index])

    def read(self, index: int, rng: random.Random) -> tuple[int, list[list[Tensor]]]:
        """Read the images of sample ``index``.

        Returns:
            The sample that was read (``index``, or the first one of a following row if the image is broken), and for
            each image column the list of its views, each (3, H, W).

        Raises:
            DataError: see :class:`ReadGuard`.
        """
        for _ in range(len(self)):
            row = self.row(index)
            try:
                images = [decode_image(self.tables.cell(row, column), self._mode) for column in self.image_columns]
                views = [[self._view(transform, image, rng) for transform in self.transforms] for image in images]
            except ImageError as error:
                self.guard.failure(self.tables.describe(row), error)
                index = self._next(row)
            else:
                self.guard.success()
                return index, views
        raise DataError(f"dataset {self.spec.key} ({self.split}): no image at all can be read")

    def _next(self, row: int) -> int:
        """Return the first sample of the row after ``row``, from the start after the last."""
        index = row + 1 if self.image_only else self.tables.first_text(row + 1)
        return index % len(self)

    @staticmethod
    def _view(transform: Transform, image: Image.Image, rng: random.Random) -> Tensor:
        try:
            return transform(image if image.mode in ("RGB", transform.mode) else image.convert(transform.mode), rng)
        except ValueError as error:  # such as an image so thin that resizing leaves it without a side
            raise ImageError(f"{image.width}x{image.height} pixels: {error}") from error
