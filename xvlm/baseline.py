"""X-VLM, as everything that uses a baseline sees it."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import lightning as L
from torch import nn

from vlp.yaml_dialect.baseline import Script, YamlBaseline
from vlp.yaml_dialect.kept_files import Keeps
from vlp.yaml_dialect.late_evaluation import EvaluateFrom
from xvlm.accelerators import settings_of
from xvlm.accelerators.shared_seed import SharedSeed
from xvlm.checkpoint_files import StepFiles, best_epoch, best_or_last, domain_stage, every_epoch, pretraining_epochs
from xvlm.config import COMMANDS
from xvlm.dataset import DATA
from xvlm.models import (
    model_bbox,
    model_bbox_pretrain,
    model_captioning,
    model_captioning_pretrain,
    model_grounding,
    model_nlvr,
    model_nlvr_pretrain,
    model_pretrain,
    model_retrieval,
    model_vqa,
)
from xvlm.models.checkpoints import LAYOUT, load_checkpoint

# EPIC >
from xvlm.models.epic_xvlm import EPIC  # isort: skip
# < EPIC

HEADS = ("itm_head.", "bbox_head.")


def _load(task: str, model: nn.Module, path: str | Path, evaluate: bool) -> list[str]:
    return load_checkpoint(model, path, task, evaluate)


def _script(name: str, task: str, model: Any, keeps: Keeps, surgery: str = "", **further: Any) -> Script:
    return Script(
        command=COMMANDS[name],
        task=task,
        model=model.XVLM,
        datamodule=DATA[name],
        load=partial(_load, surgery or task),
        keeps=keeps,
        digits=5,
        **further,
    )


def _stage(name: str, task: str, model: Any, protocol: str) -> Script:
    """A domain stage between pre-training and fine-tuning."""
    return _script(name, task, model, domain_stage, callbacks=_seeded, protocol=protocol)


def _seeded(config: dict[str, Any]) -> list[L.Callback]:
    return [SharedSeed(config)]


def _late(config: dict[str, Any]) -> list[L.Callback]:
    return [EvaluateFrom(config["start_eval"])]


_SCRIPTS = (
    _script(
        *("Pretrain", "pretrain", model_pretrain, pretraining_epochs),
        callbacks=lambda config: [*_seeded(config), StepFiles(config)],
        protocol="pre-training: no metric",
    ),
    _script(
        *("Retrieval", "retrieval", model_retrieval, best_or_last),
        selection=("test", "r_mean"),  # as officially
        names_best=True,
        protocol="recall in percent over all images and captions of a split: the k_test most similar by contrastive "
        "features, ranked by the matching head; the epoch is the best of test, as officially",
    ),
    _script(
        *("VQA", "vqa", model_vqa, every_epoch),
        callbacks=_late,
        protocol="answers to the test questions, ranked among answer_list, for the evaluation server; accuracy 0 to 1 "
        "where the list has the annotators' answers",
    ),
    _script(
        *("NLVR", "nlvr", model_nlvr, best_epoch),
        selection=("val", "acc"),
        results_as_text=True,
        names_best=True,
        protocol="accuracy over the statements of a split",
    ),
    _stage("NLVR_pretrain", "nlvr_pretrain", model_nlvr_pretrain, "text assignment: no metric"),
    _script(
        *("Grounding", "grounding", model_grounding, best_epoch, "retrieval"),
        selection=("val", "val_d"),
        names_best=True,
        protocol="share of the expressions whose best proposal box by Grad-CAM overlaps the true one by 0.5 or more",
    ),
    _script(
        *("Grounding_bbox", "grounding_bbox", model_bbox, best_epoch, "bbox"),
        selection=("val", "val_d"),
        names_best=True,
        protocol="share of the expressions whose predicted box overlaps the true one by 0.5 or more",
    ),
    _stage("Grounding_bbox_pretrain", "bbox_pretrain", model_bbox_pretrain, "boxes of regions: no metric"),
    _script(
        *("Captioning", "captioning", model_captioning, every_epoch),
        callbacks=_late,
        protocol="captions of a split by beam search, scored by the references",
    ),
    _stage("Captioning_pretrain", "captioning_pretrain", model_captioning_pretrain, "captions: no metric"),
)

BASELINE = YamlBaseline(
    name="xvlm",
    model=model_pretrain.XVLM,
    datamodule=DATA["Pretrain"],
    layout=LAYOUT,
    heads=HEADS,
    text_family="bert",
    scripts={script.name: script for script in _SCRIPTS},
    settings=settings_of,
    # EPIC >
    extension=EPIC,
    # < EPIC
)
