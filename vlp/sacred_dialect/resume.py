"""Which checkpoint a run goes on from (``resume_from``) in the folders ``{log_dir}/{run_name}/version_{k}``."""

from __future__ import annotations

import logging
import re
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from vlp.checkpoint.weights import WeightsError, read_checkpoint
from vlp.sacred_dialect.keys import listed
from vlp.sacred_dialect.settings import PRECISIONS, run_name, trainer_settings
from vlp.training.changed_config import Reading, changed, check_changes, described
from vlp.training.resume import GoingOn, is_complete, read_run

log = logging.getLogger(__name__)

# What may differ from the checkpoint's run (None), or is written in several ways. All other keys may not.
READINGS: dict[str, Reading] = {
    # Names and places. The checkpoint has all weights, so that none come from load_path or init.
    **dict.fromkeys(("data_root", "log_dir", "exp_name", "load_path", "init", "resume_from", "resume_anyway")),
    # Their product is checked with the position in the training set.
    **dict.fromkeys(("num_gpus", "num_nodes")),
    # How the run is watched and how often it saves. A validation draws numbers and picks the best checkpoint: what
    # decides when and on what it runs (val_check_interval, eval_split, get_recall_metric) is not among these.
    **dict.fromkeys(("log_every_n_steps", "save_every_n_steps", "zero_shot_protocol", "test_only", "fast_dev_run")),
    # The same numbers in another way; compile is not among these.
    **dict.fromkeys(("num_workers", "gradient_checkpointing", "shard_optimizer")),
    "precision": lambda value: PRECISIONS.get(value, value),
    **dict.fromkeys(("warmup_steps", "val_check_interval"), repr),  # 1 is a number of steps, 1.0 a share
}
LENGTH = ("max_steps", "max_epoch")  # a run may be made longer
FIXED = ("seed", "optim_type")  # in the order of the data, and in the optimiser's states


def going_on(
    config: Mapping[str, Any], defaults: Mapping[str, Any], more_readings: Mapping[str, Reading]
) -> GoingOn | None:
    """What the run of a resolved config, whose ``resume_from`` is no longer "auto", goes on from; None: from nothing.

    Ends the process with status 0 and one line if that run is complete: a batch script that starts it again until it
    succeeds must end.

    Raises:
        WeightsError: the file is unreadable, or no checkpoint of a run.
        ValueError: its run had another configuration than ``resume_anyway`` allows, or has done more than is asked for.
    """
    path = config["resume_from"]
    if path is None or config["test_only"]:
        return None
    checkpoint = read_run(path)
    before = (checkpoint.get("hyper_parameters") or {}).get("config")
    if before is None:
        raise WeightsError(f"{path}: lacks its run's configuration, so that it cannot be gone on from; use load_path")
    changes = changed(before, config, defaults, {**READINGS, **more_readings})
    check_changes(path, changes, FIXED, (*LENGTH, *listed(config["resume_anyway"])))
    settings = trainer_settings(config)
    if is_complete(path, checkpoint, settings.max_steps, settings.max_epochs):
        limit = "max_epoch" if settings.max_steps is None else "max_steps"
        print(f"{path}: this run is complete, {limit}={config[limit]}; a larger {limit} makes it longer", flush=True)
        sys.exit(0)
    if changes:
        log.warning("[resume] from here on: %s", described(changes))
    return GoingOn(path, changes)


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
