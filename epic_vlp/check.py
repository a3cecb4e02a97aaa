"""What is wrong with EPIC in a run's config, said before its tables and models are loaded."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from epic_common.config import EpicConfig
from epic_common.language_models.load import check_generator
from epic_common.saliency_cache.reader import SaliencyCache
from epic_vlp.cache_identity import identity_in_config
from epic_vlp.frozen_teacher import check_layer, needs_weights, teacher_config
from epic_vlp.generator_access import generator_access
from epic_vlp.parts import parts_of, settings_of
from vlp.baseline import Baseline
from vlp.checkpoint.forms import existing_file


def check_epic(baseline: Baseline, config: Mapping[str, Any]) -> None:
    """Refuse wrong values of ``epic.<field>``, ``teacher_path`` and ``saliency_cache``.

    Raises:
        ValueError: naming the key: a value, a combination, what the baseline has no part for, or a task that is none of
            pre-training.
        ValueError, WeightsError: as :func:`check_files`.
    """
    settings = settings_of(baseline, config)
    if not settings.enabled:
        return
    parts_of(baseline).check_run(config, settings)
    check_files(baseline, config, settings)


def check_files(baseline: Baseline, config: Mapping[str, Any], settings: EpicConfig) -> None:
    """Refuse a teacher, a saliency cache or a generator that is not there or does not fit, as far as no tensor is read.

    Raises:
        ValueError: a cache of another run; no ``teacher_path`` where one is needed; too few layers; a teacher with
            shorter texts or, for "VLM (SAS)", another architecture; no masked language model in ``epic.generator``.
        HubError: the hub does not give ``epic.generator``.
        WeightsError: the teacher's file is missing, unreadable or of another model.
    """
    if config["saliency_cache"]:
        expected = identity_in_config(baseline, config, settings)
        SaliencyCache(config["saliency_cache"], parts_of(baseline).cache_command).check(expected)
        if config["teacher_path"]:
            existing_file(config["teacher_path"])
    if needs_weights(config, settings):
        teacher_config(baseline, config, settings)
    if settings.scores_from_momentum:
        check_layer(settings.saliency_layer, parts_of(baseline).fusion_layers(config), "the student")
    text_encoder = parts_of(baseline).text_encoder
    with generator_access(settings, text_encoder, config[text_encoder]):
        check_generator(settings)
