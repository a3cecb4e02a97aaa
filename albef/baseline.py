"""ALBEF, as everything that uses a baseline sees it."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

from torch import nn

from albef.checkpoint_files import best_epoch, better_epochs, every_epoch
from albef.config import COMMANDS
from albef.dataset import DATA
from albef.models import (
    model_grounding,
    model_nlvr,
    model_pretrain,
    model_pretrain_nlvr,
    model_retrieval,
    model_ve,
    model_vqa,
)
from albef.models.checkpoints import LAYOUT, load_checkpoint
from vlp.yaml_dialect.baseline import Script, YamlBaseline

# EPIC >
from albef.models.epic_albef import EPIC  # isort: skip
# < EPIC

HEADS = ("itm_head.",)


def _load(task: str, model: nn.Module, path: str | Path, evaluate: bool) -> list[str]:
    return load_checkpoint(model, path, task, evaluate)


def _script(name: str, task: str, model: Any, surgery: str = "", **further: Any) -> Script:
    return Script(
        command=COMMANDS[name],
        task=task,
        model=model.ALBEF,
        datamodule=DATA[name],
        load=partial(_load, surgery or task),
        **further,
    )


_SCRIPTS = (
    _script(
        *("Pretrain", "pretrain", model_pretrain),
        keeps=every_epoch,
        protocol="pre-training: no metric",
    ),
    _script(
        *("Retrieval", "retrieval", model_retrieval),
        keeps=best_epoch,
        selection=("val", "r_mean"),
        names_best=True,
        protocol="recall in percent over all images and captions of a split: the k_test most similar by contrastive "
        "features, ranked by the matching head",
    ),
    _script(
        *("VQA", "vqa", model_vqa),
        keeps=every_epoch,
        protocol="answers to the test questions, ranked among answer_list, for the evaluation server; accuracy 0 to 1 "
        "where the list has the annotators' answers",
    ),
    _script(
        *("VE", "ve", model_ve),
        keeps=best_epoch,
        selection=("val", "acc"),
        digits=4,
        results_as_text=True,
        names_best=True,
        protocol="accuracy over the pairs of a split",
    ),
    _script(
        *("NLVR", "nlvr", model_nlvr),
        keeps=better_epochs,
        selection=("val", "acc"),
        digits=4,
        results_as_text=True,
        names_best=True,
        protocol="accuracy over the statements of a split",
    ),
    _script(
        *("Pretrain_nlvr", "nlvr_pretrain", model_pretrain_nlvr),
        keeps=every_epoch,
        protocol="text assignment: no metric",
    ),
    _script(
        *("Grounding", "grounding", model_grounding, "retrieval"),
        keeps=best_epoch,
        selection=("val", "val_d"),
        protocol="share of the expressions whose best proposal box by Grad-CAM overlaps the true one by 0.5 or more",
    ),
)

BASELINE = YamlBaseline(
    name="albef",
    model=model_pretrain.ALBEF,
    datamodule=DATA["Pretrain"],
    layout=LAYOUT,
    heads=HEADS,
    text_family="bert",
    scripts={script.name: script for script in _SCRIPTS},
    # EPIC >
    extension=EPIC,
    # < EPIC
)
