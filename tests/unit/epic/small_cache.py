"""Small saliency caches on disk."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from epic_common.saliency_cache.identity import pair_key
from epic_common.saliency_cache.reader import SaliencyCache
from epic_common.saliency_cache.writer import CacheWriter

IDENTITY = {"teacher_sha256": "ab", "layer": -2, "views": ["clip"]}


def digest(number: int) -> str:
    return hashlib.blake2b(bytes([number]), digest_size=16).hexdigest()


def write(folder: Path, chunks: Sequence[Sequence[tuple[bytes, Tensor]]], source: Any = "tables") -> SaliencyCache:
    writer = CacheWriter(folder, "the command", IDENTITY, source, len(chunks))
    for number in writer.missing():
        write_chunk(writer, number, chunks[number])
    return writer.finish({})


def write_chunk(writer: CacheWriter, number: int, chunk: Sequence[tuple[bytes, Tensor]]) -> None:
    writer.write(number, [key for key, _ in chunk], [row for _, row in chunk])


def some(count: int, seed: int = 0) -> list[tuple[bytes, Tensor]]:
    rng = torch.Generator().manual_seed(seed)
    return [(pair_key(digest(i), f"caption {i}"), torch.randn(3 + i % 4, generator=rng)) for i in range(count)]


def found(cache: SaliencyCache, key: bytes, row: Tensor) -> bool:
    (scores,) = cache.scores([key])
    return scores is not None and torch.equal(scores, row)
