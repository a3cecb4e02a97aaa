"""What a run is fed: a digest of each file, by which a run that goes on knows its data again."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from vlp.files import regular

# What the configuration names (a list of a split, a data set, a folder) -> name of each of its files -> digest.
Fed = dict[str, dict[str, str]]

MOST = 1 << 30  # bytes of all files that are read for their digests
_BLOCK, _THREADS = 1 << 18, 16


def digest_of(content: bytes | memoryview, counted: str) -> str:
    """The digest of a file's content, which messages call by what was ``counted`` in it, such as "8 rows"."""
    return f"{counted}, {hashlib.blake2b(content, digest_size=8).hexdigest()}"


def digests_of_files(paths: Sequence[Path], most: int = MOST) -> list[str]:
    """The digest of each file that is not read as a whole anyway.

    Files of ``most`` bytes together are read; of more, each gives its size and evenly spaced blocks.

    Raises:
        OSError: a file cannot be read.
    """
    sizes = [path.stat().st_size for path in paths]
    blocks = None if sum(sizes) <= most else max(2, most // len(paths) // _BLOCK)
    with ThreadPoolExecutor(_THREADS) as pool:
        return list(pool.map(lambda path, size: _of_file(path, size, blocks), paths, sizes))


def _of_file(path: Path, size: int, blocks: int | None) -> str:
    found = hashlib.blake2b(digest_size=8)
    with open(regular(path), "rb") as handle:
        if blocks is None or size <= blocks * _BLOCK:
            while data := handle.read(_BLOCK):
                found.update(data)
        else:
            for number in range(blocks):
                handle.seek(number * (size - _BLOCK) // (blocks - 1))
                found.update(handle.read(_BLOCK))
    return f"{size} bytes, {found.hexdigest()}"
