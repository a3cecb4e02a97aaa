"""Shards that hold their images: how many there are in each, and their records, read one shard after the other.

What is known of a shard beforehand cuts the work into parts and need not be true: each sample is in one part all the
same.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from itertools import accumulate, islice
from pathlib import Path
from typing import ClassVar

from vlp.data.conversion.skips import Skips
from vlp.data.raw.img2dataset.samples import REPEATED, Item, Sample, Unusable
from vlp.data.raw.records import CaptionedImage
from vlp.data.raw.source import storable


@dataclass(frozen=True)
class Shard:
    """A file of samples; ``expected`` of them, as it seems, one at least."""

    path: Path
    expected: int


@dataclass(frozen=True)
class ShardRecords:
    """The images of a split in the order of the shards, and within a shard as they lie there.

    ``numbers`` are those of the records among all of the split: shard i has those from ``starts[i]`` on. What a shard
    holds beyond ``expected`` belongs to its last number.

    Attributes:
        read_shard: the samples of a shard, and what is left out of it; the number of those that are not needed.
        first_shard: of a key that several shards hold the first of them.
    """

    shards: tuple[Shard, ...]
    split: str
    read_shard: Callable[[Path, int], Iterator[Item]]
    first_shard: dict[str, int] = field(default_factory=dict)
    numbers: range = range(0)
    _paused: dict[int, tuple[int, Iterator[Item]]] = field(default_factory=dict, repr=False, compare=False)

    archived: ClassVar[bool] = True

    @classmethod
    def of(
        cls,
        shards: tuple[Shard, ...],
        split: str,
        read_shard: Callable[[Path, int], Iterator[Item]],
        first_shard: dict[str, int],
    ) -> ShardRecords:
        """All records of ``shards``."""
        return cls(shards, split, read_shard, first_shard, range(sum(shard.expected for shard in shards)))

    def __len__(self) -> int:
        return len(self.numbers)

    def __getitem__(self, part: slice) -> ShardRecords:
        return replace(self, numbers=self.numbers[part])

    def read(self, skips: Skips) -> Iterator[CaptionedImage]:
        """Yield the records in order; what is left out is counted in ``skips``.

        Raises:
            DataError: a shard has not the columns that it must have.
        """
        if not self.numbers:
            return
        starts = list(accumulate((shard.expected for shard in self.shards), initial=0))
        for i in range(bisect_right(starts, self.numbers.start) - 1, len(self.shards)):
            if starts[i] >= self.numbers.stop:
                return
            first = max(self.numbers.start - starts[i], 0)
            last = None if self.numbers.stop >= starts[i + 1] else self.numbers.stop - starts[i]
            for item in self._items(i, first, last):
                record = self._record(i, item, skips)
                if record is not None:
                    yield record

    def _items(self, shard: int, first: int, last: int | None) -> Iterator[Item]:
        """Items [first, last) of a shard; the next part begins where this one ends, and goes on reading there."""
        place, items = self._paused.pop(shard, (-1, iter(())))
        if place != first:
            items = islice(self.read_shard(self.shards[shard].path, first), first, None)
        yield from islice(items, None if last is None else last - first)
        if last is not None:
            self._paused[shard] = (last, items)

    def _record(self, shard: int, item: Item, skips: Skips) -> CaptionedImage | None:
        if isinstance(item, Unusable):
            skips.add(*item)
            return None
        path = self.shards[shard].path / item.name
        if self.first_shard.get(item.key, shard) != shard:
            skips.add(REPEATED, str(path))
        elif not item.caption.strip():
            skips.add("empty caption", str(path))
        else:
            captions = [storable(item.caption, str(path), skips)]
            return CaptionedImage(path, captions, item.name, self.split, item.image)
        return None


@dataclass(frozen=True)
class Keys:
    """The keys of a shard: the least and the greatest, as strings, and a function that reads them all."""

    first: str
    last: str
    read: Callable[[], Iterator[str]]


def repeated_keys(shards: list[Keys]) -> dict[str, int]:
    """Of every key that several shards hold, the first of these shards.

    A shard's number is a part of img2dataset's keys, so that no two shards have keys between each other's: nothing is
    read then but the least and the greatest.
    """
    found: dict[str, int] = {}
    group: list[int] = []
    last = ""
    for i in sorted((i for i, keys in enumerate(shards) if keys.last), key=lambda i: shards[i].first):
        if group and shards[i].first > last:
            found.update(_repeated_in(group, shards))
            group = []
        last = max(last, shards[i].last) if group else shards[i].last
        group.append(i)
    return {**found, **_repeated_in(group, shards)}


def _repeated_in(group: list[int], shards: list[Keys]) -> dict[str, int]:
    if len(group) < 2:
        return {}
    first: dict[str, int] = {}
    found: dict[str, int] = {}
    for i in sorted(group):
        for key in shards[i].read():
            if first.setdefault(key, i) != i:
                found[key] = first[key]
    return found


def keys_of(items: Iterator[Item]) -> Iterator[str]:
    """The keys of the samples among ``items``."""
    return (item.key for item in items if isinstance(item, Sample))
