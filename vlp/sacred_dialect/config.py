"""Sacred configurations of METER and ViLT: keys that are ours, tasks, named configs, and what cannot run.

base config < named configs in the order written < ``key=value`` updates.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from sacred import SETTINGS, Experiment

from vlp.data.arrow.registry import DatasetSpec, get_spec
from vlp.sacred_dialect.command_line import check_types
from vlp.training.compile import check_backend

# Keys of both launchers that are not official.
OUR_KEYS: dict[str, Any] = {
    "eval_split": "test",  # official validation reads the Karpathy TEST split; "val" reads val
    "zero_shot_protocol": "pretrained",  # or "coco_finetuned"; says in results.json which model a zero-shot run scored
    "gradient_checkpointing": False,
    "compile": False,  # True, or a backend of torch.compile: every transformer layer is compiled
    "shard_optimizer": False,  # optimiser states divided among the processes, for large encoders
    "log_every_n_steps": 10,
    "save_every_n_steps": 1000,  # last.ckpt, beside validations and epoch ends; 0: only there
}
OPTIONS = {"eval_split": ("test", "val"), "zero_shot_protocol": ("pretrained", "coco_finetuned")}


def new_experiment(name: str) -> Experiment:
    """A sacred experiment that has :data:`OUR_KEYS`; the official base config is added to it."""
    # Sacred's capture of stdout would swallow progress bars, and its frozen lists cannot be saved.
    SETTINGS.CAPTURE_MODE = "no"
    SETTINGS.CONFIG.READ_ONLY_CONFIG = False
    experiment = Experiment(name, save_git_info=False)
    experiment.add_config(OUR_KEYS)
    return experiment


def loss_names(tasks: Sequence[str], **active: float) -> dict[str, float]:
    """A switch for each of ``tasks``, 0 but where ``active`` says more."""
    return {task: active.get(task, 0) for task in tasks}


def base_config(experiment: Experiment) -> dict[str, Any]:
    """Every key with its default."""
    base: dict[str, Any] = {}
    for scope in experiment.configurations:
        base |= scope()
    return base


def add_named_configs(experiment: Experiment, named: Mapping[str, Mapping[str, Any]]) -> None:
    """Offer each of ``named`` on the command line."""
    for name, values in named.items():
        experiment.add_named_config(name, dict(values))


def check_run(
    config: Mapping[str, Any],
    experiment: Experiment,
    task_data: Mapping[str, str],
    specs: Mapping[str, DatasetSpec],
) -> None:
    """Refuse what cannot run, before anything is built.

    Args:
        task_data: every task that is built, and the kind of data that it learns from.
        specs: the datasets that there are.

    Raises:
        ValueError: naming the key and what to do.
    """
    check_types(config, base_config(experiment))
    check_backend(config["compile"])
    if not config["data_root"]:
        raise ValueError("data_root must be given: the folder of .arrow tables (docs/data.md says how to make them)")
    if config["resume_from"] not in (None, "auto") and not Path(config["resume_from"]).is_file():
        raise ValueError(f"resume_from={config['resume_from']}: no such file; a checkpoint, or auto")
    if config["save_every_n_steps"] < 0:
        raise ValueError(f"save_every_n_steps={config['save_every_n_steps']}: a number of optimiser steps, or 0")
    _check_tasks(config, task_data, specs)
    for key, options in OPTIONS.items():
        if config[key] not in options:
            raise ValueError(f"{key}={config[key]!r}: choose {' or '.join(options)}")


def _check_tasks(config: Mapping[str, Any], task_data: Mapping[str, str], specs: Mapping[str, DatasetSpec]) -> None:
    switches = config["loss_names"]
    if not any(value > 0 for value in switches.values()):
        raise ValueError("loss_names: every task is off; set at least one, e.g. loss_names.mlm=1")
    for task in (task for task, value in switches.items() if value > 0):
        if task not in task_data:
            raise ValueError(f"loss_names.{task}: only {', '.join(task_data)} can be trained or evaluated here")
        if unfit := [key for key in config["datasets"] if get_spec(key, specs).kind != task_data[task]]:
            raise ValueError(f"loss_names.{task} needs {task_data[task]} data, which datasets={unfit} is not")
    if switches.get("irtr", 0) > 0 and config["draw_false_text"] < 1:
        raise ValueError("irtr ranks against false captions: draw_false_text must be at least 1 (official: 15)")
    if switches.get("itm", 0) > 0 and config["draw_false_image"] < 1:
        raise ValueError("itm needs false images: draw_false_image must be at least 1")
    if config["get_recall_metric"] and switches.get("irtr", 0) <= 0:
        raise ValueError("get_recall_metric needs the retrieval task: a named config task_finetune_irtr_…")
