"""Read a saliency cache. Its file is mapped into memory: nothing but the index and the scores in use is read."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
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


class SaliencyCache:
    """A complete cache, read-only; processes on one machine share its pages.

    Args:
        folder: where it lies.
        command: what builds it, for messages.

    Raises:
        SaliencyCacheError: there is no complete cache in ``folder``, or it is damaged.
    """

    def __init__(self, folder: str | Path, command: str) -> None:
        self.folder, self.command = Path(folder), command
        if not (self.folder / "manifest.json").is_file():
            state = "is not complete" if self.folder.is_dir() else "does not exist"
            raise SaliencyCacheError(f"saliency_cache {self.folder} {state}; build it: {command}")
        self.manifest = read_manifest(self.folder)
        self.identity: dict[str, Any] = self.manifest["identity"]
        self._tensors = self._map(self.folder / self.manifest["file"])

    def _map(self, path: Path) -> dict[str, Tensor]:
        try:
            with safe_open(path, "pt") as file:
                optional = [name for name in (SUMS,) if name in file.keys()]  # noqa: SIM118
                tensors = {name: file.get_tensor(name) for name in (*INDEX, "scores", *optional)}
                plan = file.metadata()["plan"]
        except (OSError, SafetensorError, KeyError, TypeError) as error:
            raise damaged(path, str(error)) from error
        types = {name: tensor.dtype for name, tensor in tensors.items()}
        expected = {**INDEX, "scores": torch.float32, **dict.fromkeys(optional, torch.int32)}
        if types != expected or plan != self.manifest["plan"]:
            raise damaged(path, "it is not the file that the manifest describes")
        sizes = {len(tensors[name]) for name in (*INDEX, *optional)}
        starts, lengths = tensors["starts"], tensors["lengths"]
        inside = (starts >= 0) & (lengths >= 0) & (starts <= len(tensors["scores"]) - lengths)
        if sizes != {self.manifest["pairs"]} or not bool(inside.all()):
            raise damaged(path, f"the manifest has {self.manifest['pairs']} pairs, the index {sorted(sizes)}")
        return tensors

    def __len__(self) -> int:
        return int(self.manifest["pairs"])

    def check(self, expected: Mapping[str, Any]) -> None:
        """Compare what the scores were computed from with what a run needs; keys that it does not know are left out.

        Raises:
            SaliencyCacheError: naming everything that differs.
        """
        own = self.identity
        different = [
            f"{name} is {own.get(name)!r} in the cache and {value!r} in this run"
            for name, value in expected.items()
            if own.get(name) != value
        ]
        if different:
            raise SaliencyCacheError(
                f"saliency_cache {self.folder} is of another run: {'; '.join(different)}. Give the run what the cache "
                "was built with, or build another cache"
            )

    def scores(self, keys: Sequence[bytes]) -> list[Tensor | None]:
        """For each pair the raw scores (float32) of its valid tokens, or None if the cache does not have it.

        Raises:
            SaliencyCacheError: they are not those that were written.
        """
        wanted = [halves(key) for key in keys]
        high = torch.tensor([first for first, _ in wanted], dtype=torch.int64)
        places = torch.searchsorted(self._tensors["high"], high).tolist()
        return [self._at(place, *key) for place, key in zip(places, wanted, strict=True)]

    def _at(self, place: int, high: int, low: int) -> Tensor | None:
        """The scores of key (high, low), which lie at ``place`` or, among equal first halves, behind it."""
        index = self._tensors
        while place < len(self) and index["high"][place] == high:
            if index["low"][place] == low:
                start = int(index["starts"][place])
                scores = index["scores"][start : start + int(index["lengths"][place])]
                if SUMS in index and pair_sum(high, low, scores) != int(index[SUMS][place]):
                    raise damaged(self.folder / self.manifest["file"], "scores in it have changed on the disk")
                return scores
            place += 1
        return None


class CachedTeacher:
    """A teacher that reads its scores and computes nothing: ``saliency`` of a :class:`SaliencyTeacher`.

    Args:
        cache: of the teacher's scores.
        pairs_of: gives the pairs of a batch.
    """

    def __init__(self, cache: SaliencyCache, pairs_of: Callable[[Any], Pairs]) -> None:
        self.cache, self.pairs_of = cache, pairs_of
        self.sha256: str = cache.identity["teacher_sha256"]

    def saliency(self, batch: Any) -> Tensor:
        """Raw scores of Eq. 8, (B, n) float32 on the device of the batch, 0 at padding.

        Raises:
            SaliencyCacheError: a pair is not in the cache; names it.
        """
        keys, mask, names = self.pairs_of(batch)
        valid, rows = mask.bool().cpu(), []
        for scores, length, name in zip(self.cache.scores(keys), valid.sum(dim=1).tolist(), names, strict=True):
            if scores is None or len(scores) != length:
                what = "no scores" if scores is None else f"{len(scores)} scores, not {length},"
                raise SaliencyCacheError(
                    f"saliency_cache {self.cache.folder} has {what} for {name}: it is incomplete, or stale because the "
                    f"data have changed. Delete it and build it again: {self.cache.command}"
                )
            rows.append(scores)
        result = torch.zeros(valid.shape)
        result[valid] = torch.cat(rows)
        return result.to(mask.device)


def read_manifest(folder: Path) -> dict[str, Any]:
    """``manifest.json`` of a complete cache.

    Raises:
        SaliencyCacheError: it is unreadable, or the file that it names is missing or has another size.
    """
    path = folder / "manifest.json"
    try:
        manifest = json.loads(path.read_bytes())
        if manifest["format"] != FORMAT:
            raise damaged(path, f"its format is {manifest['format']}, this version reads {FORMAT}")
        file, size = folder / Path(manifest["file"]).name, manifest["bytes"]
        said = manifest.pop("sha256", None)  # an older version wrote none
        if said is not None and said != fingerprint(manifest):
            raise damaged(path, "it has changed on the disk")
        if lacking := {"identity", "plan", "pairs"} - manifest.keys():
            raise KeyError(*lacking)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        if isinstance(error, SaliencyCacheError):
            raise
        raise damaged(path, f"{type(error).__name__}: {error}") from error
    if not file.is_file() or file.stat().st_size != size:
        found = f"it has {file.stat().st_size} bytes, not {size}" if file.is_file() else "it is missing"
        raise damaged(file, found)
    return {**manifest, "file": file.name}


def damaged(path: Path, why: str) -> SaliencyCacheError:
    """The error for a file of a cache that cannot be used."""
    return SaliencyCacheError(
        f"{path} cannot be read as a saliency cache ({why}): delete its folder and build it again"
    )
