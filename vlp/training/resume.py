"""Whether a run can go on from a checkpoint (``resume_from``), and where it is done."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import nn

from vlp.checkpoint.weights import WeightsError, check_shapes, read_checkpoint
from vlp.data.datamodule import RunDataModule
from vlp.training.changed_config import Change
from vlp.training.rng import cuda_state

HINT = "resume_from needs the checkpoint of a run of the same configuration; for its weights alone: load_path"
# In every checkpoint of a run.
STATE: dict[str, type] = {
    **{"state_dict": dict, "optimizer_states": list, "lr_schedulers": list},
    **{"loops": dict, "ranks": list, "global_step": int},
}


class GoingOn(NamedTuple):
    """What a run goes on from: a checkpoint, and the values that are other ones from here on."""

    checkpoint: str
    changed: Mapping[str, Change]


def read_run(path: str | Path) -> dict[str, Any]:
    """The checkpoint of a run, its tensors left on the disk.

    Raises:
        WeightsError: the file is unreadable, or no checkpoint of a run.
    """
    checkpoint: dict[str, Any] = read_checkpoint(path, mmap=True)
    if lacking := [key for key, kind in STATE.items() if not isinstance(checkpoint.get(key), kind)]:
        raise WeightsError(f"{path}: lacks {', '.join(lacking)}. {HINT}")
    return checkpoint


def check_resume(
    going_on: GoingOn, model: nn.Module, datamodule: RunDataModule, processes: int, device: torch.device
) -> dict[str, Any]:
    """What a run that goes on notes of it: the checkpoint, its optimiser step, and the changed values.

    Raises:
        WeightsError: the file is no checkpoint of a run, or of another model.
        ValueError: of a run with other data, another number of processes or another kind of ``device``; or batches of
            another size that do not begin where it stands.
    """
    path = going_on.checkpoint
    checkpoint = read_run(path)
    place = type(datamodule).__qualname__
    if place not in checkpoint:
        raise WeightsError(f"{path}: lacks {place}. {HINT}")
    theirs, ours = checkpoint["state_dict"], model.state_dict()
    if different := sorted(theirs.keys() ^ ours.keys()):
        first = different[0]
        side = "has" if first in theirs else "lacks"
        raise WeightsError(f"{path} is of another model: it {side} {first} ({len(different)} names differ). {HINT}")
    check_shapes(path, theirs, ours, HINT)
    try:
        datamodule.check_position(checkpoint[place], processes)
        check_batches(datamodule, checkpoint[place]["position"])
        cuda_state(checkpoint["ranks"][0]["random_state"], device)
    except ValueError as error:
        raise ValueError(f"resume_from={path}: {error}") from error
    changes = {key: change._asdict() for key, change in going_on.changed.items()}
    return {"checkpoint": path, "step": int(checkpoint["global_step"]), "changed": changes}


def check_batches(datamodule: RunDataModule, position: int) -> None:
    """Whether a batch of the training loader begins at a position.

    Raises:
        ValueError: none does.
    """
    loader: Any = datamodule.train_dataloader()
    size, samples = loader.batch_size, len(loader.sampler)
    if position < samples and position % size:
        raise ValueError(
            f"it stands after {position:,} of a process's {samples:,} samples of the epoch, which batches of {size} do "
            "not divide: give a per_gpu_batchsize that does, or the checkpoint of an epoch's end"
        )


def is_complete(path: str, checkpoint: Mapping[str, Any], max_steps: int | None, max_epochs: int) -> bool:
    """Whether all that a run is to do has been done.

    Raises:
        ValueError: more than that has been done.
    """
    if max_steps is None:
        key, wanted, unit = "max_epoch", max_epochs, "epochs"
        done = checkpoint["loops"]["fit_loop"]["epoch_progress"]["current"]["completed"]
    else:
        key, wanted, unit, done = "max_steps", max_steps, "steps", checkpoint["global_step"]
    if done > wanted:
        raise ValueError(
            f"{key}={wanted}, but resume_from={path} has done {done} {unit}: give a larger {key} to go on, or start a "
            f"new run from the weights: load_path={path}"
        )
    return done == wanted
