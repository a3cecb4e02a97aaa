"""Which checkpoint a run goes on from (``resume_from``), and whether it can."""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import lightning as L
from torch import nn

from vlp.checkpoint.weights import WeightsError, check_shapes, read_checkpoint
from vlp.training.trainer import run_name

log = logging.getLogger(__name__)


def resolve_resume(config: Mapping[str, Any]) -> str | None:
    """``resume_from`` with "auto" replaced by the newest complete last.ckpt of this run's name, or None without one."""
    if config["resume_from"] != "auto":
        return config["resume_from"]
    folder = Path(config["log_dir"]) / run_name(config)
    for path in sorted(folder.glob("version_*/checkpoints/last.ckpt"), key=_version, reverse=True):
        try:
            read_checkpoint(path, mmap=True)
        except WeightsError as error:
            log.warning("[resume] auto: passed over, %s", error)
        else:
            log.info("[resume] auto: %s", path)
            return str(path)
    log.info("[resume] auto: no last.ckpt in %s/version_*, a new run starts", folder)
    return None


def _version(path: Path) -> int:
    match = re.fullmatch(r"version_(\d+)", path.parents[1].name)
    return int(match[1]) if match else -1


def check_resume(
    path: str | Path, model: nn.Module, datamodule: L.LightningDataModule, processes: int
) -> dict[str, Any]:
    """What a run that goes on from ``path`` notes of it: the checkpoint and its optimiser step.

    Args:
        datamodule: with ``check_position(state, processes)``, which raises ``ValueError``.

    Raises:
        WeightsError: the file is no checkpoint of a run, or of another model.
        ValueError: of a run with other data or another number of processes.
    """
    checkpoint: dict[str, Any] = read_checkpoint(path, mmap=True)
    needed = ("state_dict", "optimizer_states", "lr_schedulers", "loops", "ranks", type(datamodule).__qualname__)
    hint = "resume_from needs the checkpoint of a run of the same configuration; for its weights alone: load_path"
    if lacking := [key for key in needed if key not in checkpoint]:
        raise WeightsError(f"{path}: lacks {', '.join(lacking)}. {hint}")
    theirs, ours = checkpoint["state_dict"], model.state_dict()
    if different := sorted(theirs.keys() ^ ours.keys()):
        first = different[0]
        side = "has" if first in theirs else "lacks"
        raise WeightsError(f"{path} is of another model: it {side} {first} ({len(different)} names differ). {hint}")
    check_shapes(path, theirs, ours, hint)
    try:
        datamodule.check_position(checkpoint[type(datamodule).__qualname__], processes)  # type: ignore[attr-defined]
    except ValueError as error:
        raise ValueError(f"resume_from={path}: {error}") from error
    return {"checkpoint": str(path), "step": int(checkpoint["global_step"])}
