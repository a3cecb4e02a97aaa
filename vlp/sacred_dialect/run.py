"""What the launchers of METER and ViLT do with a resolved config.

Source: docs/official/meter.md §1.3, docs/official/vilt.md §1.
"""

from __future__ import annotations

import copy
import logging
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import lightning as L
import torch
import transformers
from lightning.fabric.plugins.environments import ClusterEnvironment

from vlp.checkpoint.atomic_io import last_save_failure
from vlp.checkpoint.loading import freeze_itm_head
from vlp.checkpoint.weights import WeightsError
from vlp.data.arrow.datamodule import ArrowDataModule
from vlp.data.errors import DataError
from vlp.evaluation.vqa import write_submission
from vlp.files import write_json
from vlp.sacred_dialect.task_module import TaskModule
from vlp.training.failures import plain_failures
from vlp.training.resume import check_resume, resolve_resume
from vlp.training.run_log import run_directory, write_run_header
from vlp.training.trainer import build_trainer, prepare_process

log = logging.getLogger(__name__)

Extra = Callable[[Any, Any, L.Trainer], None]  # model, data module


@dataclass(frozen=True)
class Baseline:
    """What a run needs to know of its baseline.

    Attributes:
        name: as ``results.json`` has it.
        check: refuses a config that cannot run, with a ValueError that names the key.
        datamodule, model: built from a config.
        load: (model, path) -> the heads that the file lacks.
        head_names: prefixes of the heads that a task cannot do without.
    """

    name: str
    check: Callable[[dict[str, Any]], None]
    datamodule: type[ArrowDataModule]
    model: Callable[[dict[str, Any]], TaskModule]
    load: Callable[[TaskModule, str], list[str]]
    head_names: Sequence[str]


def run(
    baseline: Baseline,
    config: dict[str, Any],
    environment: ClusterEnvironment | None = None,
    extras: Sequence[Extra] = (),
) -> None:
    """Train, or with ``test_only`` evaluate; one process of the run.

    ``extras`` add to what is built before any checkpoint is loaded. What is wrong with the config, the data or a
    weights file ends in one line and status 1, before anything runs.
    """
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stdout)
    config = copy.deepcopy(config)
    try:
        trainer, model, datamodule = build(baseline, config, environment, extras)
        resumed = None
        if config["resume_from"] and not config["test_only"]:
            resumed = check_resume(config["resume_from"], model, datamodule, trainer.world_size)
    except (DataError, WeightsError, ValueError, OSError) as error:
        log.debug("while building the run", exc_info=True)
        sys.exit(f"error: {error}")
    directory = run_directory(trainer)
    if directory is not None:
        write_run_header(directory, config, resumed)
    # From here on ranks differ in their dropout and their matching labels; the models above are equal.
    torch.manual_seed(config["seed"] + trainer.global_rank)
    with plain_failures(trainer.global_rank):
        if config["test_only"]:
            trainer.test(model, datamodule=datamodule, verbose=False)
            if trainer.is_global_zero and directory is not None:
                write_results(baseline.name, trainer, directory, config, write_answers(model, datamodule))
        else:
            trainer.fit(model, datamodule=datamodule, ckpt_path=config["resume_from"], weights_only=True)
            if failure := last_save_failure(trainer):
                sys.exit(f"error: {failure}")
    if directory is not None and trainer.is_global_zero:  # another process may have counted one version more
        log.info("run directory: %s", directory)


def build(
    baseline: Baseline, config: dict[str, Any], environment: ClusterEnvironment | None, extras: Sequence[Extra]
) -> tuple[L.Trainer, TaskModule, ArrowDataModule]:
    """Everything that a run needs, checked and loaded, equal on every rank; ``resume_from=auto`` is resolved."""
    baseline.check(config)
    config["resume_from"] = resolve_resume(config)
    prepare_process()
    # Poolers are new and MLM heads are not read, by design: transformers reports both as if they were faults.
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    L.seed_everything(config["seed"], verbose=False)
    datamodule = baseline.datamodule(config)
    model = baseline.model(config)
    trainer = build_trainer(config, datamodule.has_validation, environment)
    for extra in extras:
        extra(model, datamodule, trainer)
    if config["load_path"]:
        missing = baseline.load(model, config["load_path"])
        heads = [name.split(".")[0] for name in missing if name.startswith(tuple(baseline.head_names))]
        if config["test_only"] and heads:
            raise WeightsError(f"{config['load_path']} has no {heads[0]}: fine-tune it for this task first")
    if {"irtr", "itm"} <= set(model.heads):
        freeze_itm_head(model)
    return trainer, model, datamodule


def write_answers(model: TaskModule, datamodule: ArrowDataModule) -> dict[str, Any]:
    """VQAv2: write ``{log_dir}/vqa_submit_{stem}.json`` for its evaluation server; what results.json says of it."""
    if "vqa" not in model.current_tasks:
        return {}
    stem = Path(model.config["load_path"]).name[:-5]  # as in the run's name
    path = Path(model.config["log_dir"]) / f"vqa_submit_{stem}.json"
    write_submission(path, model.vqa_predictions, datamodule.answers)
    print(f"answers: {path}")
    return {"submission": str(path), "questions": len(model.vqa_predictions.of_question)}


def write_results(
    baseline: str, trainer: L.Trainer, directory: Path, config: Mapping[str, Any], more: Mapping[str, Any]
) -> None:
    """Print the official recall tuple and write ``results.json``: metrics, checkpoint, split, protocol and ``more``."""
    metrics = {name: float(value) for name, value in trainer.callback_metrics.items()}
    if config["get_recall_metric"]:
        order = ("ir_r1", "ir_r5", "ir_r10", "tr_r1", "tr_r5", "tr_r10")
        print(tuple(metrics[f"recalls/{name}"] for name in order), trainer.global_step)
    path = directory / "results.json"
    write_json(
        path,
        {
            "baseline": baseline,
            "checkpoint": config["load_path"],
            "datasets": list(config["datasets"]),
            "eval_split": config["eval_split"],
            "zero_shot_protocol": config["zero_shot_protocol"],
            "metrics": metrics,
            **more,
        },
    )
    print(f"results: {path}")
