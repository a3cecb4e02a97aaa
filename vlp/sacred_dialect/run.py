"""What the launchers of METER and ViLT do with a resolved config that their schema allows.

Source: docs/official/meter.md §1.3, docs/official/vilt.md §1.
"""

from __future__ import annotations

import copy
import logging
import sys
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import lightning as L
from lightning.fabric.plugins.environments import ClusterEnvironment

from vlp.checkpoint.loading import freeze_itm_head, load_into
from vlp.checkpoint.weights import WeightsError, saved_config, sha256_of_file
from vlp.config.schema import defaults
from vlp.data.arrow.datamodule import ArrowDataModule
from vlp.evaluation.score_table import print_scores
from vlp.evaluation.vqa import write_submission
from vlp.files import write_json
from vlp.progress import waiting
from vlp.sacred_dialect.baseline import SacredBaseline
from vlp.sacred_dialect.notices import batches_per_epoch, check_validation, odd_settings
from vlp.sacred_dialect.paper_metrics import named_scores, paper_metrics
from vlp.sacred_dialect.resume import going_on, resolve_resume
from vlp.sacred_dialect.settings import answers_file, run_name
from vlp.sacred_dialect.trainer import build_trainer
from vlp.training.processes import leave_processes
from vlp.training.run import Run, evaluate, or_exit, train
from vlp.training.run_log import check_log_dir
from vlp.training.trainer import prepare_process
from vlp.training.wandb_log import add_wandb

log = logging.getLogger(__name__)

# What the metrics of a task are, for results.json.
PROTOCOLS = {
    "irtr": "recall over all images and captions of a split, every pair scored by the fusion layers",
    "vqa": "answers to the test questions, for the evaluation server",
    "nlvr2": "accuracy over the statements of a split",
    "snli": "accuracy over the pairs of a split",
}


def run(baseline: SacredBaseline, config: dict[str, Any], environment: ClusterEnvironment | None = None) -> None:
    """Train, or with ``test_only`` evaluate; one process of the run.

    ``environment`` is that of another launcher (MPI). What is wrong with the config, the data or a weights file ends
    in one line and status 1, before anything runs.
    """
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stdout)
    config = copy.deepcopy(config)
    with waiting("building the run: its data, model and weights"):
        built = or_exit(lambda: build(baseline, config, environment))
    if config["test_only"]:
        evaluate(built, config, config["seed"], partial(write_results, baseline, built, config))
    else:
        train(built, config, config["seed"])
    leave_processes()


def build(baseline: SacredBaseline, config: dict[str, Any], environment: ClusterEnvironment | None = None) -> Run:
    """Everything that a run needs; ``resume_from=auto`` is resolved in ``config``.

    Raises:
        ValueError, DataError, WeightsError, OSError: config, data or a weights file do not serve.
        SystemExit: a run that is resumed is complete.
    """
    baseline.check(config)
    if baseline.extension is not None:
        baseline.extension.settle(baseline, config)
    if not config["fast_dev_run"]:
        check_log_dir(config["log_dir"], run_name(config))
    config["resume_from"] = resolve_resume(config)
    resumed = going_on(config, defaults(baseline.schema), baseline.extension.may_change if baseline.extension else ())
    prepare_process()
    L.seed_everything(config["seed"], verbose=False)
    datamodule = baseline.datamodule(config)
    trainer = build_trainer(config, datamodule.has_validation, environment)
    add_wandb(trainer, config["logger"], resumed and resumed.checkpoint)
    if not config["test_only"]:
        check_schedule(baseline, config, datamodule, trainer.is_global_zero)
    model = baseline.model(config)
    if baseline.extension is not None:
        baseline.extension.join(baseline, model, datamodule, trainer)
    if config["load_path"]:
        missing = load_into(model, config["load_path"], baseline.layout)
        heads = [name.split(".")[0] for name in missing if name.startswith(baseline.heads)]
        if config["test_only"] and heads:
            raise WeightsError(f"{config['load_path']} has no {heads[0]}: fine-tune it for this task first")
    if {"irtr", "itm"} <= set(model.heads):
        freeze_itm_head(model)
    return Run(trainer, model, datamodule, resumed)


def check_schedule(
    baseline: SacredBaseline, config: Mapping[str, Any], datamodule: ArrowDataModule, is_global_zero: bool
) -> None:
    """Say on rank 0 what is hardly meant.

    Raises:
        ValueError: a validation that no epoch reaches.
    """
    batches = batches_per_epoch(config, len(datamodule.sets["train"]))
    check_validation(config, batches)
    odd = [*odd_settings(config, batches)]
    if empty := datamodule.sets["train"].empty_tables:
        odd.append(f"without a row, so that the others alone are trained on: {', '.join(empty)}")
    if baseline.extension is not None:
        odd += baseline.extension.odd_settings(baseline, config)
    for line in odd if is_global_zero else ():
        log.warning("[notice] %s", line)


def write_results(baseline: SacredBaseline, built: Run, config: Mapping[str, Any], directory: Path) -> None:
    """Write ``results.json``: metrics, checkpoint, split, protocol; print the scores and the official recall tuple."""
    metrics = {name: float(value) for name, value in built.trainer.callback_metrics.items()}
    if config["get_recall_metric"]:
        order = ("ir_r1", "ir_r5", "ir_r10", "tr_r1", "tr_r5", "tr_r10")
        print(tuple(metrics[f"recalls/{name}"] for name in order), built.trainer.global_step)
    path = directory / "results.json"
    model: Any = built.model
    answers = write_answers(built, config)
    write_json(
        path,
        {
            "baseline": baseline.name,
            "checkpoint": config["load_path"],
            "checkpoint_sha256": sha256_of_file(config["load_path"]),
            "datasets": list(config["datasets"]),
            "eval_split": config["eval_split"],
            "zero_shot_protocol": config["zero_shot_protocol"],
            "protocol": "; ".join(PROTOCOLS[task] for task in model.current_tasks if task in PROTOCOLS),
            "metrics": metrics,
            "paper": paper_metrics(config, metrics, saved_config(config["load_path"])),
            **answers,
        },
    )
    print_scores(named_scores(config["eval_split"], metrics))
    print(f"results: {path}")


def write_answers(built: Run, config: Mapping[str, Any]) -> dict[str, Any]:
    """VQAv2: write :func:`answers_file`; what results.json says of it."""
    model: Any = built.model
    datamodule: Any = built.datamodule
    if "vqa" not in model.current_tasks:
        return {}
    path = answers_file(config)
    write_submission(path, model.vqa_predictions, datamodule.answers)
    print(f"answers: {path}")
    return {"submission": str(path), "questions": len(model.vqa_predictions.of_question)}
