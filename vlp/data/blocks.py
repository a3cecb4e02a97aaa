"""A sequence whose items are made when they are asked for."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar

T = TypeVar("T")


class Blocks(Sequence[T]):
    """``read(0)`` to ``read(number - 1)``, none of which is kept."""

    def __init__(self, number: int, read: Callable[[int], T]) -> None:
        self._number, self._read = number, read

    def __len__(self) -> int:
        return self._number

    def __getitem__(self, index: int) -> T:  # type: ignore[override]
        if not 0 <= index < self._number:
            raise IndexError(f"block {index} of {self._number}")
        return self._read(index)
