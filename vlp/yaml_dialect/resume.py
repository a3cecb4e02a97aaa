"""Which checkpoint a run of ALBEF or X-VLM goes on from: ``resume_from``, in ``output_dir/checkpoints``."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from vlp.config.engine_keys import listed
from vlp.config.schema import defaults
from vlp.owner import check_free
from vlp.training.changed_config import Reading, file_names
from vlp.training.resume import GoingOn, Keys, Rules, going_on_from, is_complete, read_run
from vlp.training.run_folder import claim_of
from vlp.training.settings import PRECISIONS
from vlp.yaml_dialect.baseline import Script

log = logging.getLogger(__name__)

# What may differ from the checkpoint's run (None), or is written in several ways. All other keys may not.
READINGS: dict[str, Reading] = {
    # Names and places. The checkpoint has all weights, so that none come from checkpoint or init.
    **dict.fromkeys(("output_dir", "checkpoint", "init", "resume", "resume_from", "resume_anyway", "evaluate")),
    **dict.fromkeys(("text_encoder", "text_decoder", "image_root", "vqa_root", "vg_root", "allow_outside_root")),
    "refcoco_data": None,  # what is in its files is compared
    # The number of processes is checked with the position in the training set.
    **dict.fromkeys(("world_size", "dist_url", "distributed", "device")),
    **dict.fromkeys(("log_every_n_steps", "save_every_n_steps", "ckpt_frequent_step", "ckpt_frequent", "logger")),
    # Flags of X-VLM: what bs and epochs change is compared, the others change nothing.
    **dict.fromkeys(("bs", "epochs", "load_nlvr_pretrain", "load_bbox_pretrain", "load_capt_pretrain")),
    # The same numbers, up to rounding, in another way; compile and matmul_precision are not among these.
    **dict.fromkeys(("num_workers", "gradient_checkpointing", "shard_optimizer", "deterministic", "pack_text")),
    **dict.fromkeys(("images.num_workers", "regions.num_workers"), lambda _: None),
    # What is in them is compared, too.
    **dict.fromkeys(("train_file", "train_file_regions", "val_file", "test_file", "answer_list"), file_names),
    **dict.fromkeys(("det_file", "val_gt_file", "test_gt_file"), file_names),
    "precision": lambda value: PRECISIONS.get(value, value),
}
# Only max_steps makes a run longer: the cosine and so every step depends on schedular.epochs. Batches of another size
# would be others than those that the schedule and the distillation ramp count.
RULES = Rules(
    READINGS,
    length=("max_steps",),
    fixed=("seed", "batch_size", "batch_size_train", "queue_size", "images.batch_size", "regions.batch_size"),
    keys=Keys(weights="--checkpoint", epochs="schedular.epochs", batch="batch_size"),
)


def last_checkpoint_of(config: Mapping[str, Any]) -> Path:
    """Where the run of a config keeps its newest state."""
    return Path(config["output_dir"]) / "checkpoints" / "last.ckpt"


def resolve_resume(config: Mapping[str, Any]) -> str | None:
    """``resume_from`` with "auto" replaced by the last.ckpt of ``output_dir``; None where there is none.

    Raises:
        WeightsError: "auto" and a last.ckpt that is broken: a new run would bury what it is worth.
    """
    if config["resume_from"] != "auto":
        return config["resume_from"]
    path = last_checkpoint_of(config)
    if not path.exists():
        log.info("[resume] auto: no %s, a new run starts", path)
        return None
    read_run(path, RULES.keys)
    log.info("[resume] auto: %s", path)
    return str(path)


def going_on(config: Mapping[str, Any], script: Script, may_change: Iterable[str] = ()) -> GoingOn | None:
    """What the run of a resolved config, whose ``resume_from`` is no longer "auto", goes on from; None: from nothing.

    ``may_change`` are an extension's keys that are free to differ. Ends the process with status 0 if that run is
    complete.

    Raises:
        WeightsError, ValueError: as :func:`vlp.training.resume.going_on_from`.
        ValueError, HeldError: a new run in the folder of another one.
    """
    path, last = config["resume_from"], last_checkpoint_of(config)
    if config.get("evaluate"):
        return None
    if path is None:
        if last.exists() and not config.get("resume"):
            check_free(claim_of(config["output_dir"]))  # that of this run is taken later
            raise ValueError(
                f"output_dir={config['output_dir']}: holds the run of {last}: go on with it by resume_from=auto, give "
                "another output_dir, or remove it"
            )
        return None
    limits = {"schedular.epochs": (None, config["schedular"]["epochs"])}
    if config["max_steps"] is not None:
        limits["max_steps"] = (config["max_steps"], config["schedular"]["epochs"])

    def finished(checkpoint: Mapping[str, Any]) -> str:
        for key, (steps, epochs) in limits.items():
            if is_complete(path, checkpoint, steps, epochs, RULES.keys):
                longer = "; a larger max_steps makes it longer" if key == "max_steps" else ""
                return f"{key}={steps or epochs}{longer}{_unscored(config)}"
        return ""

    rules = RULES._replace(readings={**READINGS, **dict.fromkeys(may_change)})
    known = defaults(script.command.schema)
    return going_on_from(path, config, known, rules, listed(config["resume_anyway"]), finished)


def _unscored(config: Mapping[str, Any]) -> str:
    """What is said of a run that ended before its last evaluation did."""
    if "evaluate" not in config or (Path(config["output_dir"]) / "results.json").exists():
        return ""
    return "; it has no results.json: score its checkpoint by --evaluate --checkpoint FILE"
