"""Captions without images, for the language model that counts as released where none is.

Source: docs/method.md §4 "Offline".
"""

from __future__ import annotations

import os
import random
from collections.abc import Iterator
from pathlib import Path

from rich.progress import track

from scenes.grammar import Grammar
from scenes.levels import FULL, Level
from scenes.sampling import sample_scene
from scenes.statistics import Statistics


def corpus(lines: int, seed: int, level: Level = FULL) -> Iterator[str]:
    """Yield `lines` captions with the statistics of grammar seed `seed`; 0 is that of the images' captions."""
    statistics = Statistics(seed, level)
    grammar = Grammar(statistics)
    rng = random.Random(f"corpus/{seed}")
    for _ in range(lines):
        yield grammar.caption(sample_scene(rng, statistics), rng).text


def write_corpus(path: Path, lines: int, seed: int, level: Level = FULL) -> None:
    """Write one caption a line, atomically.

    Raises:
        ValueError: if `lines` is not positive.
    """
    if lines < 1:
        raise ValueError(f"lines must be positive, got {lines}")
    path.parent.mkdir(parents=True, exist_ok=True)
    fresh = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    with fresh.open("w", encoding="utf-8") as file:
        for line in track(corpus(lines, seed, level), "writing captions", total=lines):
            file.write(line + "\n")
    os.replace(fresh, path)
