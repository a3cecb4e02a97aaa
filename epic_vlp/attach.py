"""Attach EPIC to a built student: its teacher or cache loaded, its objective in place."""

from __future__ import annotations

import logging
from typing import Any, cast

import torch
from transformers import PreTrainedTokenizerBase

from epic_common.config import EpicConfig
from epic_common.generator import TokenGenerator, build_generator
from epic_common.language_models.load import load_language_model
from epic_common.teacher import SasSnapshot, VisionLanguageModel
from epic_common.vocabulary import Vocabulary
from epic_vlp.cached_teacher import load_cached_teacher
from epic_vlp.frozen_teacher import load_teacher, needs_weights
from epic_vlp.generator_access import generator_access
from epic_vlp.lightning_epic import LightningEpic
from epic_vlp.loader_plan import plan_batches
from epic_vlp.parts import Config, parts_of, settings_of
from epic_vlp.running_average import RunningAverage
from epic_vlp.token_counts import take_saved_counts
from vlp.baseline import Baseline
from vlp.nn.packed_text import encode_packed
from vlp.training.compile import compile_layers

log = logging.getLogger(__name__)


def attach_epic(baseline: Baseline, model: Any, datamodule: Any, rank: int) -> None:
    """Build EPIC's parts for an already built student, so that its initial weights are those of the vanilla run.

    The config has passed :func:`epic_vlp.check.check_epic`. Where a cache stands for the teacher, the loaders of
    ``datamodule`` add what its keys are made of.

    Raises:
        ValueError: a teacher, a cache or a language model of other token ids; or a resumed run with another teacher.
        HubError: a language model that cannot be had.
        WeightsError: a teacher that does not fit, or a damaged file.
    """
    config, tokenizer = model.config, datamodule.tokenizer
    settings = settings_of(baseline, config)
    if not settings.enabled:
        return
    model.epic = build_epic(baseline, config, settings, tokenizer, rank)
    compile_layers(model.epic, config["compile"])
    if config["resume_from"]:
        model.epic.check_same_teacher(config["resume_from"])
        take_saved_counts(model.epic, config["resume_from"])
    plan_batches(model.epic, datamodule, config, parts_of(baseline).teacher_plan)
    log.info("[epic] %s", settings)


def build_epic(
    baseline: Baseline, config: Config, settings: EpicConfig, tokenizer: PreTrainedTokenizerBase, rank: int
) -> LightningEpic:
    """The baseline's objective, with the teacher, its cache or the student's average, and the masked language model.

    Raises:
        ValueError, WeightsError: as :func:`attach_epic`.
    """
    cached = load_cached_teacher(baseline, config, settings, tokenizer) if config["saliency_cache"] else None
    frozen = load_teacher(baseline, config, settings, tokenizer) if needs_weights(config, settings) else None
    parts, average = parts_of(baseline), None
    if settings.scores_from_momentum and not parts.momentum_model:
        average = new_average(baseline, config, settings)
    return parts.epic(
        settings,
        Vocabulary.from_tokenizer(tokenizer),
        parts.text_width(config),
        load_generator(baseline, config, settings, tokenizer),
        seed=config["seed"],
        rank=rank,
        teacher=(cached or frozen) if settings.scores_from_teacher else average,
        snapshot=SasSnapshot(frozen) if settings.replacement == "vlm" and frozen is not None else None,
    )


def new_average(baseline: Baseline, config: Config, settings: EpicConfig) -> RunningAverage:
    """The running average of a run's student; its weights come with the first step."""
    parts = parts_of(baseline)
    # A path, since a model that starts from a file reads no released weights.
    own = {**config, **parts.as_teacher("the student", config, settings)}
    with torch.random.fork_rng():
        model = parts.teacher(own)
    return RunningAverage(cast(VisionLanguageModel, model), settings.saliency_layer, settings.teacher_decay)


def load_generator(
    baseline: Baseline, config: Config, settings: EpicConfig, tokenizer: PreTrainedTokenizerBase
) -> TokenGenerator:
    """The generator that ``settings`` describe, with its masked language model if it has one.

    Raises:
        ValueError, HubError, WeightsError: as :func:`attach_epic`.
    """
    parts = parts_of(baseline)
    with generator_access(settings, parts.text_encoder, config[parts.text_encoder]):
        language_model = load_language_model(settings, config[parts.text_encoder], tokenizer)
    vocabulary, image_width = Vocabulary.from_tokenizer(tokenizer), parts.image_width(config)
    return build_generator(settings, vocabulary, language_model, image_width, encode=encode_packed)
