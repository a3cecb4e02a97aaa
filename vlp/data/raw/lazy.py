"""The records of a split, built one at a time: millions of them never lie in memory together."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import ClassVar, Generic, Protocol, TypeVar

from vlp.data.conversion.skips import Skips

Record = TypeVar("Record")
Read = TypeVar("Read", covariant=True)


class Records(Protocol[Read]):
    """Records of a split, in order; a slice is a part of them, and reads none.

    ``len`` is the number of records if none is left out. ``archived`` ones hold the bytes of their images, which are no
    files of their own: they are read once, in order.
    """

    @property
    def archived(self) -> bool: ...
    def __len__(self) -> int: ...
    def __getitem__(self, part: slice) -> Records[Read]: ...
    def read(self, skips: Skips) -> Iterator[Read]: ...


@dataclass(frozen=True)
class LazyRecords(Generic[Record]):
    """Records that are built one at a time when they are read; a slice is a part of them, and builds none.

    ``build(number, skips)`` returns record ``number``, or None after it has counted in ``skips`` why there is none.
    ``len`` is the number of records if none is left out.
    """

    numbers: range
    build: Callable[[int, Skips], Record | None]

    archived: ClassVar[bool] = False

    def __len__(self) -> int:
        return len(self.numbers)

    def __getitem__(self, part: slice) -> LazyRecords[Record]:
        return replace(self, numbers=self.numbers[part])

    def read(self, skips: Skips) -> Iterator[Record]:
        """Yield the records in order; what is left out is counted in ``skips``.

        Raises:
            DataError: an annotation names a file outside the root, or a file that belongs to a record is broken.
        """
        for number in self.numbers:
            record = self.build(number, skips)
            if record is not None:
                yield record
