"""Millions of labelled boxes, held as arrays and grouped by image."""

from __future__ import annotations

from array import array
from collections.abc import Iterator, Sequence

import numpy as np

Box = tuple[float, float, float, float]


class BoxTable:
    """Boxes (left and upper edge, width, height) with the number of their image and of their label.

    Numbers are in the order of adding; 28 bytes a box, while Python objects would take ten times as much.
    """

    def __init__(self) -> None:
        self._images, self._labels, self._sides = array("q"), array("i"), array("f")
        self._order: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self._images)

    def add(self, image: int, label: int, box: Sequence[float]) -> None:
        """Append a box; OverflowError if a number is too large."""
        x, y, width, height = box
        self._images.append(image)
        self._labels.append(label)
        self._sides.extend((x, y, width, height))

    def group(self) -> None:
        """Sort by image; to be called once, behind the last :meth:`add`."""
        images = np.frombuffer(self._images, np.int64) if self._images else np.empty(0, np.int64)
        self._order = np.argsort(images, kind="stable")
        self._sorted = images[self._order]

    def images(self) -> list[int]:
        """Return the images that have a box, in ascending order."""
        return [int(image) for image in np.unique(self._sorted)]

    def labels(self) -> list[int]:
        """Return the labels that a box has, in ascending order."""
        return sorted(set(self._labels))

    def of(self, image: int) -> Iterator[tuple[int, int, Box]]:
        """Yield (number of the box, label, box) of an image, in the order of adding."""
        assert self._order is not None
        first, last = np.searchsorted(self._sorted, (image, image + 1))
        for number in map(int, self._order[first:last]):
            x, y, width, height = self._sides[4 * number : 4 * number + 4]
            yield number, self._labels[number], (x, y, width, height)
