"""Build a saliency cache chunk by chunk: several processes at once, and again after a kill.

A chunk is a part of the pairs with a number. Each is written to a file of its own, which appears when it is complete;
the last step joins them. The result is the same to the byte, whoever wrote which chunk and however often it stopped.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, safe_open, save_file
from torch import Tensor

from epic_common.saliency_cache.identity import (
    FORMAT,
    INDEX,
    SUMS,
    Pairs,
    SaliencyCacheError,
    fingerprint,
    halves,
    pair_sum,
)
from epic_common.saliency_cache.reader import SaliencyCache
from epic_common.teacher import SaliencyTeacher


class CacheWriter:
    """Writes the cache of ``folder``.

    Args:
        folder: of the cache.
        command: what builds it, for messages.
        identity: what the scores are computed from; ``teacher_sha256`` is one of its keys. JSON values.
        source: what the pairs come from and how they are cut into chunks; another one starts from nothing. JSON values.
        chunks: how many chunks there are.

    Raises:
        SaliencyCacheError: the folder holds a complete cache of another identity.
    """

    def __init__(self, folder: str | Path, command: str, identity: Mapping[str, Any], source: Any, chunks: int) -> None:
        self.folder, self.command, self.identity, self.chunks = Path(folder), command, dict(identity), chunks
        self.plan = fingerprint([FORMAT, self.identity, source, chunks])
        self._parts = self.folder / f"chunks-{self.plan[:12]}"
        self._complete = False
        if (self.folder / "manifest.json").is_file():
            cache = SaliencyCache(self.folder, command)
            cache.check(self.identity)
            self._complete = cache.manifest["plan"] == self.plan

    def missing(self) -> list[int]:
        """The chunks that are still to be written; none if the cache is complete."""
        return [] if self._complete else [n for n in range(self.chunks) if not self._part(n).is_file()]

    def _part(self, number: int) -> Path:
        return self._parts / f"{number:06d}.safetensors"

    def write(self, number: int, keys: Sequence[bytes], scores: Sequence[Tensor], skipped: int = 0) -> None:
        """Write chunk ``number``: the pairs' keys, their float32 scores (one a valid token), how many were left out."""
        index = torch.tensor([halves(key) for key in keys], dtype=torch.int64).reshape(-1, 2)
        tensors = {
            "high": index[:, 0].contiguous(),
            "low": index[:, 1].contiguous(),
            "lengths": torch.tensor([len(row) for row in scores], dtype=torch.int32),
            SUMS: torch.tensor(
                [pair_sum(*halves(key), row) for key, row in zip(keys, scores, strict=True)], dtype=torch.int32
            ),
            "scores": torch.cat([torch.zeros(0), *scores]),
        }
        _save(self._part(number), tensors, {"skipped": str(skipped)})

    def finish(self, about: Mapping[str, Any]) -> SaliencyCache:
        """Join the chunks into the cache; to be called once, by one process, when none is missing.

        Args:
            about: what else the manifest shall say (JSON values).

        Raises:
            SaliencyCacheError: chunks are missing.
        """
        if missing := self.missing():
            raise SaliencyCacheError(
                f"{self._parts} lacks {len(missing)} of {self.chunks} chunks: start the build again"
            )
        if not self._complete:
            paths = [self._part(number) for number in range(self.chunks)]
            skipped = sum(_skipped(path) for path in paths)
            tensors = _joined([_with_sums(load_file(path)) for path in paths])
            path = self.folder / f"scores-{self.plan[:12]}.safetensors"
            _save(path, tensors, {"plan": self.plan})
            manifest = {
                "format": FORMAT,
                "identity": self.identity,
                "file": path.name,
                "bytes": path.stat().st_size,
                "plan": self.plan,
                "pairs": len(tensors["high"]),
                "tokens": int(tensors["lengths"].sum()),
                "skipped_pairs": skipped,
                **about,
            }
            manifest["sha256"] = fingerprint(manifest)
            # From here on the cache is the new one; before, the old one, if there was any.
            _replace(self.folder / "manifest.json", json.dumps(manifest, indent=2).encode() + b"\n")
            self._complete = True
        self._remove_leftovers()
        return SaliencyCache(self.folder, self.command)

    def _remove_leftovers(self) -> None:
        for path in self.folder.glob("chunks-*"):
            shutil.rmtree(path)
        for path in self.folder.glob("*scores-*.safetensors*"):
            if path.name != f"scores-{self.plan[:12]}.safetensors":
                path.unlink()


def scores_of(teacher: SaliencyTeacher, batch: Any, pairs: Pairs) -> list[Tensor]:
    """The teacher's scores of each pair's valid tokens, float32 on the CPU.

    Raises:
        FloatingPointError: a score is NaN or infinite; names the pair.
    """
    scores, valid = teacher.saliency(batch).float().cpu(), pairs.mask.bool().cpu()
    rows = [row[mask] for row, mask in zip(scores, valid, strict=True)]
    for row, name in zip(rows, pairs.names, strict=True):
        if not bool(row.isfinite().all()):
            raise FloatingPointError(
                f"the teacher's saliency of {name} is not finite: check its checkpoint and precision"
            )
    return rows


def _with_sums(chunk: dict[str, Tensor]) -> dict[str, Tensor]:
    """A chunk that an older version wrote gets its sums now."""
    if SUMS in chunk:
        return chunk
    rows = chunk["scores"].split(chunk["lengths"].tolist())
    keys = zip(chunk["high"].tolist(), chunk["low"].tolist(), rows, strict=True)
    return {**chunk, SUMS: torch.tensor([pair_sum(*key) for key in keys], dtype=torch.int32)}


def _joined(chunks: Sequence[Mapping[str, Tensor]]) -> dict[str, Tensor]:
    """One index over all chunks, sorted by key, each key once; the scores stay in the order of the chunks."""
    kinds = {**INDEX, SUMS: torch.int32, "scores": torch.float32}
    columns = {
        name: torch.cat([torch.zeros(0, dtype=kind), *(chunk[name] for chunk in chunks)])
        for name, kind in kinds.items()
        if name != "starts"
    }
    columns["starts"] = columns["lengths"].cumsum(0) - columns["lengths"]
    order = columns["low"].sort(stable=True).indices
    order = order[columns["high"][order].sort(stable=True).indices]
    high, low = columns["high"][order], columns["low"][order]
    first = torch.ones(len(order), dtype=torch.bool)
    first[1:] = (high[1:] != high[:-1]) | (low[1:] != low[:-1])
    return {**{name: columns[name][order[first]] for name in (*INDEX, SUMS)}, "scores": columns["scores"]}


def _skipped(path: Path) -> int:
    with safe_open(path, "pt") as file:
        return int(file.metadata()["skipped"])


def _save(path: Path, tensors: dict[str, Tensor], metadata: dict[str, str]) -> None:
    """A safetensors file that appears under its name when it is complete."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.tmp")
    try:
        partial.touch()
        mode = partial.stat().st_mode  # of the umask; safetensors makes files that other users cannot read
        save_file(tensors, partial, metadata=metadata)
        partial.chmod(mode)
        _publish(partial, path)
    finally:
        partial.unlink(missing_ok=True)


def _replace(path: Path, content: bytes) -> None:
    partial = path.with_name(f".{path.name}.tmp")
    partial.write_bytes(content)
    _publish(partial, path)


def _publish(partial: Path, path: Path) -> None:
    """Rename, with the content on the disk before, so that no kill leaves half a file under ``path``."""
    with open(partial, "rb") as handle:
        os.fsync(handle.fileno())
    os.replace(partial, path)
