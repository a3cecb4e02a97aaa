"""The frozen teacher of a run: its own architecture, as far as its file tells, on the student's images."""

from __future__ import annotations

import logging
from typing import cast

import torch
from transformers import PreTrainedTokenizerBase

from epic_common.config import EpicConfig
from epic_common.teacher import Teacher, VisionLanguageModel
from epic_vlp.parts import Config, parts_of
from vlp.baseline import Baseline
from vlp.checkpoint.loading import load_into
from vlp.checkpoint.recognition import refuse_other
from vlp.checkpoint.weights import read_state_dict, saved_config
from vlp.data.tokenizers import load_tokenizer

log = logging.getLogger(__name__)


def load_teacher(
    baseline: Baseline, config: Config, settings: EpicConfig, tokenizer: PreTrainedTokenizerBase
) -> Teacher:
    """The frozen teacher of ``teacher_path``: its own architecture if the file says it, the student's image size.

    Raises:
        WeightsError: the file is no checkpoint of this baseline, or does not fit.
        ValueError: it has too few fusion layers for ``epic.saliency_layer``, or other token ids.
    """
    path, parts = config["teacher_path"], parts_of(baseline)
    refuse_other(path, read_state_dict(path, mmap=True), baseline.layout)
    own = saved_config(path)
    needs_mlm = settings.replacement == "vlm"
    teacher_config = {
        **config,
        **{key: own[key] for key in baseline.layout.architecture if key in own},
        "loss_names": {task: int(task == "mlm" and needs_mlm) for task in config["loss_names"]},
        "load_path": path,
        "gradient_checkpointing": False,
    }
    longest, ours = teacher_config["max_text_len"], config["max_text_len"]
    if longest < ours:
        raise ValueError(f"the teacher {path} reads texts of max_text_len={longest} at most, this run has {ours}")
    teacher_config["tokenizer"] = _tokenizer_of(path, teacher_config["tokenizer"], config["tokenizer"], tokenizer)
    with torch.random.fork_rng():
        model = parts.teacher(teacher_config)
    if (layers := parts.fusion_layers(model)) < -settings.saliency_layer:
        raise ValueError(
            f"the teacher {path} has {layers} fusion layers, epic.saliency_layer={settings.saliency_layer} needs more"
        )
    load_into(model, path, baseline.layout)
    teacher = Teacher(cast(VisionLanguageModel, model), settings.saliency_layer, path)
    log.info("[epic] teacher %s, sha256 %s", path, teacher.sha256)
    return teacher


def _tokenizer_of(path: str, theirs: str, ours: str, tokenizer: PreTrainedTokenizerBase) -> str:
    """The name of the teacher's tokenizer and text encoder: this run's if the teacher's folder is not here.

    Raises:
        ValueError: the teacher has other token ids.
    """
    if theirs == ours:
        return ours
    try:
        vocabulary = load_tokenizer(theirs).get_vocab()
    except OSError:
        log.warning("[epic] the teacher %s has tokenizer=%s, which is not here: taken to be %s", path, theirs, ours)
        return ours
    if vocabulary != tokenizer.get_vocab():
        raise ValueError(f"the teacher {path} has tokenizer={theirs}, this run {ours}: other token ids")
    return theirs
