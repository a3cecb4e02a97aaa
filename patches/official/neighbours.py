"""Find an official line's place in a changed file by the hashes of the lines around it; no official text is kept."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from patches.marks import PatchError
from patches.official.lines import Insertion, blob, split

REACH = 3
EDGE = "edge"  # stands for what is before the first line and behind the last

Around = dict[str, list[str]]  # "before" and "behind": hashes, the nearest first


def around(data: bytes, after: int) -> Around:
    """The hashes of the lines around the place behind line ``after``."""
    hashes = [EDGE, *(blob(line) for line in split(data)[0]), EDGE]
    return {"before": hashes[max(after - REACH + 1, 0) : after + 1][::-1], "behind": hashes[after + 1 :][:REACH]}


def write(path: Path, places: dict[str, dict[int, Around]]) -> None:
    """Write the hashes of one code base's places."""
    path.write_text(json.dumps(places, indent=1) + "\n", encoding="utf-8")


def read(path: Path) -> dict[str, dict[int, Around]]:
    """What :func:`write` wrote."""
    return {
        name: {int(after): hashes for after, hashes in places.items()}
        for name, places in json.loads(path.read_bytes()).items()
    }


def locate(data: bytes, insertions: Sequence[Insertion], places: dict[int, Around]) -> list[Insertion]:
    """The insertions at the places in ``data`` that have the official neighbours.

    A place is taken if it alone has the same lines on both sides, as many of them as can be: three, two or one.

    Raises:
        PatchError: a place has changed, is there more than once or was never learnt, or the places' order is another.
    """
    result: list[Insertion] = []
    for insertion in insertions:
        if insertion.after not in places:
            raise PatchError(f"the lines around official line {insertion.after} were not recorded; `learn` again")
        line = _place(data, places[insertion.after], insertion.after)
        if result and line <= result[-1].after:
            raise PatchError(f"what was around official line {insertion.after} now stands before an earlier place")
        result.append(insertion._replace(after=line))
    return result


def _place(data: bytes, official: Around, after: int) -> int:
    candidates = [around(data, line) for line in range(len(split(data)[0]) + 1)]
    for reach in range(REACH, 0, -1):
        fitting = [
            line
            for line, here in enumerate(candidates)
            if all(here[side][:reach] == official[side][:reach] for side in ("before", "behind"))
        ]
        if len(fitting) == 1:
            return fitting[0]
        if fitting:
            raise PatchError(f"what is around official line {after} stands at several places: {fitting}")
    raise PatchError(f"a line next to official line {after}'s end has changed or is gone")
