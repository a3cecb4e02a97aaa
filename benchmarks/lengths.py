"""Sentence lengths of a benchmark's batch: those of real captions, or the longest."""

from __future__ import annotations

import itertools
import json
from pathlib import Path

TABLE = Path(__file__).parent / "caption_lengths.json"


def caption_lengths(tokenizer: str, count: int) -> list[int]:
    """``count`` caption lengths in tokens, special ones included, that stand for the whole distribution.

    The distribution of ``caption_lengths.json`` is cut into ``count`` parts of equal weight, and each gives its mean,
    rounded so that the sum, too, is that of the distribution: a small batch has the mean of a large one.

    Args:
        tokenizer: "roberta" or "bert".
    """
    shares = {int(length): share for length, share in json.loads(TABLE.read_text())[tokenizer].items()}
    total, part = sum(shares.values()), 0
    sums = [0.0] * count
    room = 1.0
    for length, share in sorted(shares.items()):
        weight = count * share / total
        while weight > room and part < count - 1:
            sums[part] += room * length
            weight, room, part = weight - room, 1.0, part + 1
        sums[part] += weight * length
        room -= weight
    ends = [round(end) for end in itertools.accumulate(sums, initial=0.0)]
    return [end - start for start, end in itertools.pairwise(ends)]
