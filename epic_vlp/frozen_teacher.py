"""The frozen teacher of a run: its own architecture, as far as its file tells, on the student's images."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any, cast

import torch
from transformers import PreTrainedTokenizerBase

from epic_common.config import EpicConfig
from epic_common.teacher import Teacher, VisionLanguageModel
from epic_vlp.parts import Config, parts_of
from vlp.baseline import Baseline
from vlp.checkpoint.forms import weights_file
from vlp.checkpoint.loading import load_into
from vlp.checkpoint.recognition import EPIC_PREFIX, refuse_other
from vlp.checkpoint.weights import WeightsError, read_state_dict, saved_config
from vlp.data.tokenizers import load_tokenizer
from vlp.training.changed_config import flat

log = logging.getLogger(__name__)


def needs_weights(config: Mapping[str, Any], settings: EpicConfig) -> bool:
    """Whether a run loads the teacher itself: for its scores, or as the first snapshot of "VLM (SAS)"."""
    return settings.replacement == "vlm" or (settings.needs_teacher and not config["saliency_cache"])


def load_teacher(
    baseline: Baseline, config: Config, settings: EpicConfig, tokenizer: PreTrainedTokenizerBase
) -> Teacher:
    """The frozen teacher of ``teacher_path``: its own architecture if the file says it, the student's image size.

    Raises:
        WeightsError: the file is no checkpoint of this baseline, does not fit, or lacks the MLM head of "VLM (SAS)".
        ValueError: as :func:`teacher_config`; or it has other token ids.
    """
    own, path, parts = teacher_config(baseline, config, settings), config["teacher_path"], parts_of(baseline)
    if is_of_epic(path):
        log.warning("[teacher] %s was itself trained with EPIC; the paper's teacher is pre-trained without", path)
    key = parts.text_encoder
    own[key] = _tokenizer_of(path, key, own[key], config[key], tokenizer)
    with torch.random.fork_rng():
        model = parts.teacher(own)
    missing = load_into(model, path, parts.layout_of_teacher(baseline))
    if missing and settings.replacement == "vlm":
        raise WeightsError(f"{path}: lacks {missing[0]}, the MLM head that epic.replacement='vlm' draws words from")
    teacher = Teacher(cast(VisionLanguageModel, model), settings.saliency_layer, weights_file(path))
    log.info("[epic] teacher %s, sha256 %s", path, teacher.sha256)
    return teacher


def teacher_config(baseline: Baseline, config: Mapping[str, Any], settings: EpicConfig) -> Config:
    """The config that the teacher of ``teacher_path`` is built from: the run's, with the file's architecture.

    Raises:
        WeightsError: the file is missing, unreadable or of another model.
        ValueError: none is given; or the teacher has no layer ``epic.saliency_layer``, reads shorter texts than the run
            or, as the first snapshot of "VLM (SAS)", is not of the student's architecture.
    """
    path, parts = config["teacher_path"], parts_of(baseline)
    if not path:
        article = "an" if baseline.title[0] in "AX" else "a"
        raise ValueError(
            f"teacher_path must be given: the checkpoint of {article} {baseline.title} pre-trained without EPIC"
        )
    layout = parts.layout_of_teacher(baseline)
    refuse_other(path, read_state_dict(path, mmap=True), layout)
    said = saved_config(path)
    is_snapshot = settings.replacement == "vlm"
    own: Config = {
        **config,
        **{key: said[key] for key in layout.architecture if key in said and _is_same_kind(said[key], config.get(key))},
        **parts.as_teacher(path, config, settings),
    }
    layers = parts.fusion_layers(own)
    check_layer(settings.saliency_layer, layers, f"the teacher {path}")
    key = parts.longest_text
    if key and own[key] < config[key]:
        raise ValueError(f"the teacher {path} reads texts of {key}={own[key]} at most, this run has {config[key]}")
    # The tokenizer decides shapes through the vocabulary's size alone, and the same one may lie elsewhere.
    shapes = [key for key in layout.architecture if key != parts.text_encoder]
    theirs, here = (flat({key: side[key] for key in shapes}, whole=True) for side in (own, config))
    if is_snapshot and (other := [key for key in {**theirs, **here} if theirs.get(key) != here.get(key)]):
        differences = ", ".join(f"{key}={theirs.get(key)} (here {here.get(key)})" for key in other)
        raise ValueError(
            f"epic.replacement='vlm' fills the teacher's model with the student's weights: the teacher {path} has "
            f"{differences}"
        )
    return own


def check_layer(layer: int, layers: int, whose: str) -> None:
    """Refuse ``epic.saliency_layer`` that counts further than there are fusion layers.

    Raises:
        ValueError: naming ``whose`` they are.
    """
    if not -layers <= layer < layers:
        raise ValueError(f"epic.saliency_layer={layer}: {whose} has {layers} fusion layers, {-layers} to {layers - 1}")


def _is_same_kind(theirs: Any, ours: Any) -> bool:
    """Whether both are blocks or both are not: where we have a block, an official config may name the file of it."""
    return isinstance(theirs, Mapping) == isinstance(ours, Mapping)


def is_of_epic(path: str) -> bool:
    """Whether a checkpoint is that of a run with EPIC, by its tensors or, in an export, its config."""
    epic = saved_config(path).get("epic")
    enabled = isinstance(epic, Mapping) and bool(epic.get("enabled"))
    return enabled or any(name.startswith(EPIC_PREFIX) for name in read_state_dict(path, mmap=True))


def _tokenizer_of(path: str, key: str, theirs: str, ours: str, tokenizer: PreTrainedTokenizerBase) -> str:
    """The name of the teacher's tokenizer and text encoder: this run's if the teacher's folder is not here.

    Raises:
        ValueError: the teacher has other token ids.
    """
    if theirs == ours:
        return ours
    try:
        vocabulary = load_tokenizer(theirs).get_vocab()
    except OSError:
        log.warning("[epic] the teacher %s has %s=%s, which is not here: taken to be %s", path, key, theirs, ours)
        return ours
    if vocabulary != tokenizer.get_vocab():
        raise ValueError(f"the teacher {path} has {key}={theirs}, this run {ours}: other token ids")
    return theirs
