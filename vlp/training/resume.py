"""Whether a run can go on from a checkpoint (``resume_from``)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from torch import nn

from vlp.checkpoint.weights import WeightsError, check_shapes, read_checkpoint
from vlp.data.datamodule import RunDataModule


def check_resume(path: str | Path, model: nn.Module, datamodule: RunDataModule, processes: int) -> dict[str, Any]:
    """What a run that goes on from ``path`` notes of it: the checkpoint and its optimiser step.

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
        datamodule.check_position(checkpoint[type(datamodule).__qualname__], processes)
    except ValueError as error:
        raise ValueError(f"resume_from={path}: {error}") from error
    return {"checkpoint": str(path), "step": int(checkpoint["global_step"])}
