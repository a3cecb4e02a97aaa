"""Whether a run can go on from a checkpoint (``resume_from``), and where it is done."""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable, Collection, Mapping
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

import torch
from lightning.pytorch.utilities import rank_zero_only
from torch import nn

from vlp.checkpoint.weights import WeightsError, check_finite, check_tensors, named_tensors, read_checkpoint
from vlp.data.datamodule import RunDataModule
from vlp.data.fed import Fed
from vlp.training.changed_config import DATA, Change, Reading, changed, check_changes, described
from vlp.training.rng import cuda_state

log = logging.getLogger(__name__)
_NAMED = 5  # files in a message

# In every checkpoint of a run.
STATE: dict[str, type] = {
    **{"state_dict": dict, "optimizer_states": list, "lr_schedulers": list},
    **{"loops": dict, "ranks": list, "global_step": int},
}


class Keys(NamedTuple):
    """What a dialect calls the keys that messages name: a file of weights, the epochs, the batch of a process."""

    weights: str = "load_path"
    epochs: str = "max_epoch"
    batch: str = "per_gpu_batchsize"

    @property
    def hint(self) -> str:
        """What to give instead of a file that does not serve."""
        run = "the checkpoint of a run of the same configuration"
        return f"resume_from needs {run}; for its weights alone: {self.weights}"


SACRED = Keys()


class GoingOn(NamedTuple):
    """What a run goes on from: a checkpoint, and the values that are other ones from here on.

    Attributes:
        other_data: whether files may have another content than they had.
    """

    checkpoint: str
    changed: Mapping[str, Change]
    keys: Keys = SACRED
    other_data: bool = False


class Rules(NamedTuple):
    """How the keys of a dialect take part in going on.

    Attributes:
        readings: how values are compared; None: they may differ.
        length: keys by which a run may be made longer.
        fixed: keys that no run can change.
    """

    readings: Mapping[str, Reading]
    length: tuple[str, ...]
    fixed: tuple[str, ...]
    keys: Keys = SACRED


def going_on_from(
    path: str,
    config: Mapping[str, Any],
    defaults: Mapping[str, Any],
    rules: Rules,
    anyway: Collection[str],
    finished: Callable[[Mapping[str, Any]], str],
) -> GoingOn:
    """What the run of a resolved config goes on from.

    Ends the process with status 0 and one line if that run is complete: a batch script that starts it again until it
    succeeds must end.

    Args:
        anyway: keys and blocks that may differ all the same, and "data".
        finished: why the run of a checkpoint is complete; empty if it is not.

    Raises:
        WeightsError: the file is unreadable, or no checkpoint of a run.
        ValueError: its run had another configuration than is allowed, or has done more than is asked for.
    """
    checkpoint = read_run(path, rules.keys)
    before = (checkpoint.get("hyper_parameters") or {}).get("config")
    if before is None:
        raise WeightsError(
            f"{path}: lacks its run's configuration, so that it cannot be gone on from; use {rules.keys.weights}"
        )
    changes = changed(before, config, defaults, rules.readings)
    check_changes(path, changes, rules.fixed, (*rules.length, *anyway), rules.keys.weights)
    if said := finished(checkpoint):
        print(f"{path}: this run is complete, {said}", flush=True)
        sys.exit(0)
    if changes:
        log.warning("[resume] from here on: %s", described(changes))
    return GoingOn(path, changes, rules.keys, DATA in anyway)


def read_run(path: str | Path, keys: Keys = SACRED) -> dict[str, Any]:
    """The checkpoint of a run, its tensors left on the disk.

    Raises:
        WeightsError: the file is unreadable, or no checkpoint of a run.
    """
    checkpoint: dict[str, Any] = read_checkpoint(path, mmap=True)
    if lacking := [key for key, kind in STATE.items() if not isinstance(checkpoint.get(key), kind)]:
        raise WeightsError(f"{path}: lacks {', '.join(lacking)}. {keys.hint}")
    return checkpoint


def check_resume(
    going_on: GoingOn, model: nn.Module, datamodule: RunDataModule, processes: int, device: torch.device
) -> dict[str, Any]:
    """What a run that goes on notes of it: the checkpoint, its optimiser step, and the changed values.

    Raises:
        WeightsError: the file is no checkpoint of a run, of another model, or holds numbers that are none.
        ValueError: of a run with other data, another number of processes or another kind of ``device``; or batches of
            another size that do not begin where it stands.
    """
    path, keys = going_on.checkpoint, going_on.keys
    checkpoint = read_run(path, keys)
    place = type(datamodule).__qualname__
    if place not in checkpoint:
        raise WeightsError(f"{path}: lacks {place}. {keys.hint}")
    theirs, ours = checkpoint["state_dict"], model.state_dict()
    if different := sorted(theirs.keys() ^ ours.keys()):
        first = different[0]
        side = "has" if first in theirs else "lacks"
        raise WeightsError(
            f"{path} is of another model: it {side} {first} ({len(different)} names differ). {keys.hint}"
        )
    check_tensors(path, theirs, ours, keys.hint)
    check_finite(path, named_tensors(checkpoint["optimizer_states"], "optimizer_states"))
    changed = {**going_on.changed, **check_data(going_on, checkpoint.get(DATA), datamodule.fed)}
    try:
        datamodule.check_position(checkpoint[place], processes, going_on.other_data)
        if "position" in checkpoint[place]:  # of a sampler: streams hold their batches' sizes themselves
            check_batches(datamodule, checkpoint[place]["position"], keys)
        cuda_state(checkpoint["ranks"][0]["random_state"], device)
    except ValueError as error:
        raise ValueError(f"resume_from={path}: {error}") from error
    changes = {key: change._asdict() for key, change in changed.items()}
    return {"checkpoint": path, "step": int(checkpoint["global_step"]), "changed": changes}


def check_data(going_on: GoingOn, before: Any, now: Fed) -> dict[str, Change]:
    """Which files are others than those that the checkpoint's run was fed, each with both digests.

    What only one of the two runs reads at all is the configuration's to say. A checkpoint of an earlier version holds
    no digests (``before``): that is said, and nothing compared.

    Raises:
        ValueError: some are, which the user has not asked for.
    """
    path = going_on.checkpoint
    if not isinstance(before, dict):
        if now:
            said = "it is not known whether they changed, since an earlier version wrote no digests of them"
            rank_zero_only(log.warning)("[resume] the data of %s: %s", path, said)
        return {}
    both = [(source, before[source], now[source]) for source in now if isinstance(before.get(source), dict)]
    changes = {
        f"{file} ({source})": Change(theirs.get(file, "not read"), ours.get(file, "not there"))
        for source, theirs, ours in both
        for file in {**ours, **theirs}
        if theirs.get(file) != ours.get(file)
    }
    if not changes:
        return {}
    more = f"; and {len(changes) - _NAMED} more files" if len(changes) > _NAMED else ""
    listed = described(dict(islice(changes.items(), _NAMED))) + more
    if not going_on.other_data:
        raise ValueError(
            f"resume_from={path}: its run was fed other data: {listed}. Put back the files as they were, or go on with "
            f"them as they are: resume_anyway={DATA}"
        )
    rank_zero_only(log.warning)("[resume] other data from here on: %s", listed)
    return changes


def check_batches(datamodule: RunDataModule, position: int, keys: Keys = SACRED) -> None:
    """Whether a batch of the training loader begins at a position.

    Raises:
        ValueError: none does.
    """
    loader: Any = datamodule.train_dataloader()
    size, samples = loader.batch_size, len(loader.sampler)
    if position < samples and position % size:
        raise ValueError(
            f"it stands after {position:,} of a process's {samples:,} samples of the epoch, which batches of {size} do "
            f"not divide: give a {keys.batch} that does, or the checkpoint of an epoch's end"
        )


def is_complete(
    path: str, checkpoint: Mapping[str, Any], max_steps: int | None, max_epochs: int, keys: Keys = SACRED
) -> bool:
    """Whether all that a run is to do has been done.

    Raises:
        ValueError: more than that has been done.
    """
    if max_steps is None:
        key, wanted, unit = keys.epochs, max_epochs, "epochs"
        done = checkpoint["loops"]["fit_loop"]["epoch_progress"]["current"]["completed"]
    else:
        key, wanted, unit, done = "max_steps", max_steps, "steps", checkpoint["global_step"]
    if done > wanted:
        raise ValueError(
            f"{key}={wanted}, but resume_from={path} has done {done} {unit}: give a larger {key} to go on, or start a "
            f"new run from the weights: {keys.weights}={path}"
        )
    return done == wanted
