"""Which checkpoint a run goes on from (``resume_from``) in the folders ``{log_dir}/{run_name}/version_{k}``."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from vlp.checkpoint.weights import WeightsError
from vlp.config.engine_keys import listed
from vlp.owner import Claim, check_free
from vlp.sacred_dialect.settings import PRECISIONS, run_name, trainer_settings
from vlp.training.changed_config import Reading
from vlp.training.resume import GoingOn, Rules, going_on_from, is_complete, read_run
from vlp.training.run_log import last_logged_step

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
    "logger": None,
    # The same numbers, up to rounding, in another way; compile and matmul_precision are not among these.
    **dict.fromkeys(("num_workers", "gradient_checkpointing", "shard_optimizer")),
    **dict.fromkeys(("deterministic", "pack_text", "reorder_attention")),
    "precision": lambda value: PRECISIONS.get(value, value),
    **dict.fromkeys(("warmup_steps", "val_check_interval"), repr),  # 1 is a number of steps, 1.0 a share
}
# A run may be made longer. The seed is in the order of the data, optim_type in the optimiser's states.
RULES = Rules(READINGS, length=("max_steps", "max_epoch"), fixed=("seed", "optim_type"))


def going_on(config: Mapping[str, Any], defaults: Mapping[str, Any], may_change: Iterable[str] = ()) -> GoingOn | None:
    """What the run of a resolved config, whose ``resume_from`` is no longer "auto", goes on from; None: from nothing.

    ``may_change`` are an extension's keys that are free to differ. Ends the process with status 0 if that run is
    complete.

    Raises:
        WeightsError, ValueError: as :func:`vlp.training.resume.going_on_from`.
    """
    path = config["resume_from"]
    if path is None or config["test_only"]:
        return None
    settings = trainer_settings(config)

    def finished(checkpoint: Mapping[str, Any]) -> str:
        if not is_complete(path, checkpoint, settings.max_steps, settings.max_epochs):
            return ""
        limit = "max_epoch" if settings.max_steps is None else "max_steps"
        return f"{limit}={config[limit]}; a larger {limit} makes it longer"

    rules = RULES._replace(readings={**READINGS, **dict.fromkeys(may_change)})
    return going_on_from(path, config, defaults, rules, listed(config["resume_anyway"]), finished)


def resolve_resume(config: Mapping[str, Any]) -> str | None:
    """``resume_from`` with "auto" replaced by the newest whole checkpoint of this run's name.

    Of the newest version that has a last.ckpt, it comes first, then the other checkpoints of that folder, then older
    versions. None where there is no last.ckpt at all.

    Raises:
        WeightsError: there are some, and every one is broken: a new run would bury what they are worth.
        HeldError: the run that it belongs to is not over.
    """
    if config["resume_from"] != "auto":
        return config["resume_from"]
    folder = Path(config["log_dir"]) / run_name(config)
    lasts = sorted(folder.glob("version_*/checkpoints/last.ckpt"), key=_version, reverse=True)
    broken: list[str] = []
    for path in (path for last in lasts for path in (last, *_others(last))):
        try:
            step = read_run(path)["global_step"]
        except WeightsError as error:
            log.warning("[resume] auto: passed over, %s", error)
            broken.append(str(error))
            continue
        # A run of several ranks has no last.ckpt in its own folder before all of them have come this far.
        check_free(Claim(path.parents[1], instead="give another exp_name"))
        log.info("[resume] auto: %s", path)
        if broken:
            log.warning("[resume] auto: goes on from step %d%s", step, _repeated(step, lasts, _version(path)))
        return str(path)
    if broken:
        raise WeightsError(
            f"resume_from=auto: {folder} has {len(broken)} checkpoint(s), none of them whole: {broken[0]}. Put one of "
            "them back, or start anew with resume_from=None"
        )
    log.info("[resume] auto: no last.ckpt in %s/version_*, a new run starts", folder)
    return None


def _version(path: Path) -> int:
    match = re.fullmatch(r"version_(\d+)", path.parents[1].name)
    return int(match[1]) if match else -1


def _others(last: Path) -> list[Path]:
    """The checkpoints beside a last.ckpt, ``epoch=…-step=….ckpt``, the newest first."""

    def step(path: Path) -> int:
        match = re.search(r"step=(\d+)", path.name)
        return int(match[1]) if match else -1

    return sorted((path for path in last.parent.glob("*.ckpt") if path != last), key=step, reverse=True)


def _repeated(step: int, lasts: Iterable[Path], version: int) -> str:
    """How many of the steps that were logged since ``step`` are made again, as far as the logs can be read."""
    logs = [last.parents[1] / "metrics.jsonl" for last in lasts if _version(last) >= version]
    logged = max(map(last_logged_step, logs), default=-1) + 1
    return f"; the log goes to step {logged}: {logged - step} steps are made again" if logged > step else ""
