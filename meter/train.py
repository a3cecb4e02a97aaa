"""What run.py and azure_distributed_run.py do with a resolved config (SPEC §1.3)."""

from __future__ import annotations

import copy
import logging
import sys
from pathlib import Path
from typing import Any

import lightning as L
import torch
import transformers
from lightning.fabric.plugins.environments import ClusterEnvironment

from meter.config import ex
from meter.datamodules.multitask_datamodule import MTDataModule
from meter.modules.checkpoints import freeze_itm_head, load_checkpoint
from meter.modules.meter_module import METERTransformerSS
from meter.modules.meter_utils import HEAD_NAMES
from vlp.data.errors import DataError
from vlp.data.registry import get_spec
from vlp.evaluation.vqa import write_submission
from vlp.files import write_json
from vlp.training.checkpoint_io import last_save_failure
from vlp.training.compile import check_backend
from vlp.training.failures import plain_failures
from vlp.training.launch import build_trainer, prepare_process
from vlp.training.resume import check_resume, resolve_resume
from vlp.training.run_log import run_directory, write_run_header
from vlp.training.sacred_cli import check_types
from vlp.training.weights import WeightsError

# EPIC >
from epic_vlp.attach import attach_epic  # isort: skip
from meter.modules.epic_meter import METER  # isort: skip
# < EPIC

log = logging.getLogger(__name__)

# Every task that is built, and the kind of data that it learns from.
TASK_DATA = {"mlm": "caption", "itm": "caption", "irtr": "caption", "vqa": "vqa", "nlvr2": "nlvr2", "snli": "snli"}


def run(config: dict[str, Any], environment: ClusterEnvironment | None = None) -> None:
    """Train, or with ``test_only`` evaluate; one process of the run.

    What is wrong with the config, the data or a weights file ends in one line and status 1, before anything runs.
    """
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stdout)
    config = copy.deepcopy(config)
    try:
        trainer, model, datamodule = build(config, environment)
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
                write_results(trainer, directory, config, write_answers(model, datamodule))
        else:
            trainer.fit(model, datamodule=datamodule, ckpt_path=config["resume_from"], weights_only=True)
            if failure := last_save_failure(trainer):
                sys.exit(f"error: {failure}")
    if directory is not None and trainer.is_global_zero:  # another process may have counted one version more
        log.info("run directory: %s", directory)


def build(
    config: dict[str, Any], environment: ClusterEnvironment | None
) -> tuple[L.Trainer, METERTransformerSS, MTDataModule]:
    """Everything that a run needs, checked and loaded, equal on every rank; ``resume_from=auto`` is resolved."""
    check_config(config)
    config["resume_from"] = resolve_resume(config)
    prepare_process()
    # The pooler is new and the MLM head is not read, by design: transformers reports both as if they were faults.
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    L.seed_everything(config["seed"], verbose=False)
    datamodule = MTDataModule(config)
    model = METERTransformerSS(config)
    trainer = build_trainer(config, datamodule.has_validation, environment)
    # EPIC >
    attach_epic(METER, model, datamodule, trainer.global_rank)
    # < EPIC
    if config["load_path"]:
        missing = load_checkpoint(model, config["load_path"])
        heads = [name.split(".")[0] for name in missing if name.startswith(tuple(HEAD_NAMES))]
        if config["test_only"] and heads:
            raise WeightsError(f"{config['load_path']} has no {heads[0]}: fine-tune it for this task first")
    if "irtr" in model.current_tasks:
        freeze_itm_head(model)
    return trainer, model, datamodule


def write_answers(model: METERTransformerSS, datamodule: MTDataModule) -> dict[str, Any]:
    """VQAv2: write ``{log_dir}/vqa_submit_{stem}.json`` for its evaluation server; what results.json says of it."""
    if "vqa" not in model.current_tasks:
        return {}
    stem = Path(model.config["load_path"]).name[:-5]  # as in the run's name
    path = Path(model.config["log_dir"]) / f"vqa_submit_{stem}.json"
    write_submission(path, model.vqa_predictions, datamodule.answers)
    print(f"answers: {path}")
    return {"submission": str(path), "questions": len(model.vqa_predictions.of_question)}


def write_results(trainer: L.Trainer, directory: Path, config: dict[str, Any], more: dict[str, Any]) -> None:
    """Print the official recall tuple and write ``results.json``: metrics, checkpoint, split, protocol and ``more``."""
    metrics = {name: float(value) for name, value in trainer.callback_metrics.items()}
    if config["get_recall_metric"]:
        order = ("ir_r1", "ir_r5", "ir_r10", "tr_r1", "tr_r5", "tr_r10")
        print(tuple(metrics[f"recalls/{name}"] for name in order), trainer.global_step)
    path = directory / "results.json"
    write_json(
        path,
        {
            "baseline": "meter",
            "checkpoint": config["load_path"],
            "datasets": list(config["datasets"]),
            "eval_split": config["eval_split"],
            "zero_shot_protocol": config["zero_shot_protocol"],
            "metrics": metrics,
            **more,
        },
    )
    print(f"results: {path}")


def check_config(config: dict[str, Any]) -> None:
    """Refuse what cannot run, before anything is built.

    Raises:
        ValueError: naming the key and what to do.
    """
    check_types(config, ex.configurations[0]())
    check_backend(config["compile"])
    if not config["data_root"]:
        raise ValueError("data_root must be given: the folder of .arrow tables (docs/data.md says how to make them)")
    if config["resume_from"] not in (None, "auto") and not Path(config["resume_from"]).is_file():
        raise ValueError(f"resume_from={config['resume_from']}: no such file; a checkpoint, or auto")
    if config["save_every_n_steps"] < 0:
        raise ValueError(f"save_every_n_steps={config['save_every_n_steps']}: a number of optimiser steps, or 0")
    if not any(value > 0 for value in config["loss_names"].values()):
        raise ValueError("loss_names: every task is off; set at least one, e.g. loss_names.mlm=1")
    for task in (task for task, value in config["loss_names"].items() if value > 0):
        if task not in TASK_DATA:
            raise ValueError(f"loss_names.{task}: only {', '.join(TASK_DATA)} can be trained or evaluated here")
        if unfit := [key for key in config["datasets"] if get_spec(key).kind != TASK_DATA[task]]:
            raise ValueError(f"loss_names.{task} needs {TASK_DATA[task]} data, which datasets={unfit} is not")
    if config["loss_names"]["irtr"] > 0 and config["draw_false_text"] < 1:
        raise ValueError("irtr ranks against false captions: draw_false_text must be at least 1 (official: 15)")
    if config["loss_names"]["itm"] > 0 and config["draw_false_image"] < 1:
        raise ValueError("itm needs false images: draw_false_image must be at least 1")
    if config["get_recall_metric"] and config["loss_names"]["irtr"] <= 0:
        raise ValueError("get_recall_metric needs the retrieval task, e.g. task_finetune_irtr_f30k_clip_bert")
    for key, options in (("eval_split", ("test", "val")), ("zero_shot_protocol", ("pretrained", "coco_finetuned"))):
        if config[key] not in options:
            raise ValueError(f"{key}={config[key]!r}: choose {' or '.join(options)}")
