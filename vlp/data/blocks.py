"""A sequence whose items are made when they are asked for."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar

T = TypeVar("T")


class Blocks(Sequence[T]):
    """``read(0)`` to ``read(count - 1)``, none of which is kept."""

    def __init__(self, count: int, read: Callable[[int], T]) -> None:
        self.count, self.read = count, read

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, number: int) -> T:  # type: ignore[override]
        if not 0 <= number < self.count:
            raise IndexError(f"block {number} of {self.count}")
        return self.read(number)
