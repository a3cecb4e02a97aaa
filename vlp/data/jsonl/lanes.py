"""Endless, shuffled reading of JSON lines, shared out so that each line is read once in a pass.

Source: docs/official/xvlm.md §3.2.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from typing import NamedTuple

from vlp.data.errors import DataError
from vlp.data.jsonl.lines import JsonLines, Line

_FRUITLESS = 100  # passes of all lanes in which a lane finds no line: then there is none


class Position(NamedTuple):
    """Where a lane stands: its pass, how many of its chunks of the pass are done, and lines of the next one."""

    turn: int = 0
    chunks: int = 0
    lines: int = 0


class Lane:
    """Lane ``number`` of ``lanes``: its share of the lines, in every pass another one.

    In a pass all chunks are shuffled and dealt to the lanes, and the lines of each chunk are shuffled. Whoever deals
    last differs from pass to pass, so that every lane gets lines even where chunks are fewer than lanes. A lane does
    not wait for others to end their pass.

    Attributes:
        position: behind the line that was yielded last.
    """

    def __init__(self, lines: JsonLines, seed: int, number: int, lanes: int, position: Position | None = None) -> None:
        self.lines, self.seed, self.number, self.lanes = lines, seed, number, lanes
        self.position = position or Position()

    def __iter__(self) -> Iterator[tuple[int, Line]]:
        """Yield (pass, line) from the position on, endlessly.

        Raises:
            DataError: there is no line.
        """
        found = self.position.turn
        while True:
            turn, done, _ = self.position
            for chunk in self._share(turn)[done:]:
                lines = self._shuffled(turn, chunk)
                for line in lines[self.position.lines :]:
                    found = turn
                    self.position = self.position._replace(lines=self.position.lines + 1)
                    yield turn, line
                self.position = Position(turn, self.position.chunks + 1)
            self.position = Position(turn + 1)
            if turn - found > _FRUITLESS * self.lanes:
                raise DataError(
                    f"{self.lines.key}: {self.lines.files[0]} and the others hold no row, empty lines alone"
                )

    def _share(self, turn: int) -> list[int]:
        order = list(range(self.lines.chunks))
        random.Random(f"{self.seed}/{turn}").shuffle(order)
        return order[(self.number + turn) % self.lanes :: self.lanes]

    def _shuffled(self, turn: int, chunk: int) -> list[Line]:
        lines = self.lines.read(chunk)
        random.Random(f"{self.seed}/{turn}/{chunk}").shuffle(lines)
        return lines
