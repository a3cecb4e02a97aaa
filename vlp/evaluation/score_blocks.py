"""Rows of retrieval scores on the disk, so that an evaluation that was killed goes on from them.

They stand beside the run in ``scores_<hash>/``; the hash is that of the weights, the configuration and the texts, and
each row carries that of its image, so that no score of another model or of other data is ever taken.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import shutil
import time
from collections.abc import Iterable, Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

import lightning as L
import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from vlp.checkpoint.integrity import whole_file
from vlp.checkpoint.safetensors_sums import safetensors_bytes
from vlp.checkpoint.weights import WeightsError, sha256_of_tensors
from vlp.files import atomic_open
from vlp.training.run_log import run_directory

log = logging.getLogger(__name__)

SECONDS = 60.0  # between two blocks; a shorter evaluation leaves none
# Places and names: the weights themselves are in the hash.
_FREE = (
    *("load_path", "checkpoint", "resume_from", "resume_anyway", "resume", "log_dir", "output_dir", "exp_name"),
    *("num_workers", "logger"),
)


class ScoreBlocks:
    """The rows that one rank has scored; rows of all ranks are found again, also by another number of them.

    Args:
        folder: where the blocks' own folder is made; None: nothing is kept.
        model: whose weights and ``config`` the scores depend on.
    """

    def __init__(self, folder: Path | None, model: Any = None, rank: int = 0) -> None:
        self.folder, self.model, self.rank = folder, model, rank
        self._texts = ""
        self._found: dict[str, Tensor] = {}
        self._fresh: dict[str, Tensor] = {}
        self._blocks, self._flushed = 0, time.monotonic()

    def begin(self, texts: Iterable[Tensor]) -> None:
        """Look for rows of an earlier evaluation of the same texts, given as ids and masks."""
        self._texts, self._flushed = digest(texts), time.monotonic()
        if not self._are_there():
            return
        for path in sorted(self.place.glob("*.safetensors")):
            try:
                self._found |= load_file(whole_file(path))
            except WeightsError as error:
                log.warning("[retrieval] scores that are not used, and computed again: %s", error)
        if self._found and self.rank == 0:
            log.info("[retrieval] goes on from %d rows of scores in %s", len(self._found), self.place)

    def row(self, number: int, image: str) -> Tensor | None:
        """The scores (M,) of image ``number`` with this :func:`digest`, if they are there."""
        return self._found.get(f"{number}:{image}")

    def add(self, number: int, image: str, row: Tensor) -> None:
        """Keep the scores (M,) of an image; once a minute what is new is written, atomically."""
        if self.folder is None:
            return
        self._fresh[f"{number}:{image}"] = row.float().cpu()
        if time.monotonic() - self._flushed >= SECONDS:
            self._flush()

    def _flush(self) -> None:
        path = self.place / f"{os.getpid()}_{self.rank}_{self._blocks}.safetensors"
        try:
            with atomic_open(path) as handle:
                handle.writelines(safetensors_bytes(self._fresh, {}))
        except OSError as error:
            log.error("[retrieval] scores cannot be kept, the evaluation goes on: %s", error)
        self._fresh, self._blocks, self._flushed = {}, self._blocks + 1, time.monotonic()

    def remove(self) -> None:
        """After the last row of all ranks: the evaluation is complete."""
        if self.rank == 0 and self._are_there():
            shutil.rmtree(self.place, ignore_errors=True)

    def _are_there(self) -> bool:
        """Whether there are any blocks at all: else no weights need to be hashed."""
        return self.folder is not None and any(self.folder.glob("scores_*"))

    @cached_property
    def place(self) -> Path:
        """The folder of these very scores."""
        assert self.folder is not None
        return self.folder / f"scores_{self._identity()[:16]}"

    def _identity(self) -> str:
        config = {key: value for key, value in self.model.config.items() if key not in _FREE}
        module: nn.Module = self.model
        parts = (sha256_of_tensors(module.state_dict()), _as_json(config), self._texts)
        return hashlib.sha256("\n".join(parts).encode()).hexdigest()


def blocks_of(trainer: L.Trainer, model: Any) -> ScoreBlocks:
    """The blocks of an evaluation: beside its folder ``version_{k}``, as it gets another one when it starts again."""
    directory = run_directory(trainer) if trainer.loggers else None
    if directory is not None and directory.name.startswith("version_"):
        directory = directory.parent
    return ScoreBlocks(directory, model, trainer.global_rank)


def digest(tensors: Iterable[Tensor]) -> str:
    """Hex SHA-256 of types, shapes and bytes, in order."""
    found = hashlib.sha256()
    for tensor in tensors:
        found.update(f"{tensor.dtype} {tuple(tensor.shape)}".encode())
        found.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes())
    return found.hexdigest()


def _as_json(config: Mapping[str, Any]) -> str:
    return json.dumps(config, sort_keys=True, default=str)
