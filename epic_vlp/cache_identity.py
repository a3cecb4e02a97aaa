"""What the scores of a saliency cache depend on.

A frozen teacher gives a pair the same scores in every epoch only where it sees the same view of the image each time.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from transformers import PreTrainedTokenizerBase

from epic_common.config import EpicConfig
from epic_common.saliency_cache.identity import tokenizer_fingerprint
from epic_vlp.parts import Config, parts_of
from vlp.baseline import Baseline
from vlp.checkpoint.weights import sha256_of_file


def identity(
    baseline: Baseline, config: Config, settings: EpicConfig, tokenizer: PreTrainedTokenizerBase
) -> dict[str, Any]:
    """All that the scores of a pair depend on, beside its image and caption; without ``teacher_path`` not the teacher.

    Raises:
        ValueError: as :func:`identity_in_config`.
    """
    teacher = {"teacher_sha256": sha256_of_file(config["teacher_path"])} if config["teacher_path"] else {}
    return {
        **identity_in_config(baseline, config, settings),
        **teacher,
        "tokenizer": tokenizer_fingerprint(tokenizer),
    }


def identity_in_config(baseline: Baseline, config: Mapping[str, Any], settings: EpicConfig) -> dict[str, Any]:
    """The part of :func:`identity` that the config says, without a look at tokenizer and teacher.

    Raises:
        ValueError: the run does not ask for a frozen teacher's saliency, or its or its baseline's image views are not
            fixed.
    """
    parts = parts_of(baseline)
    if not settings.enabled or settings.masking != "saliency":
        raise ValueError(f"saliency_cache: only EPIC with epic.masking=saliency reads saliency ({parts.switch})")
    if settings.teacher == "momentum":
        raise ValueError(
            "saliency_cache: with epic.teacher=momentum the teacher is another one in every step, and no score can be "
            "kept: leave saliency_cache out"
        )
    if parts.cached_views is None and not parts.fixed_views:
        instead = "epic.teacher=momentum is the cheap teacher here: it needs no second model"
        raise ValueError(
            f"saliency_cache: {baseline.title} sees another view of an image each time, and cached scores are exact on "
            f"a fixed one alone; {instead if parts.momentum_model else 'leave it out, and give teacher_path'}"
        )
    views = parts.cached_views(config) if parts.cached_views is not None else views_of_tables(baseline, config)
    return {"baseline": baseline.name, "epic.saliency_layer": settings.saliency_layer, **views}


def views_of_tables(baseline: Baseline, config: Mapping[str, Any]) -> dict[str, Any]:
    """What the sentences and images of Arrow tables become in a run.

    Raises:
        ValueError: as :func:`fixed_views`.
    """
    sizes = {key: config[key] for key in ("max_text_len", "image_size")}
    return {**sizes, "transform_keys": fixed_views(baseline, config)}


def fixed_views(baseline: Baseline, config: Mapping[str, Any]) -> list[str]:
    """The transform keys of a run, which draw nothing and are the same in training and validation.

    Raises:
        ValueError: they are not; names the key.
    """
    fixed, views = parts_of(baseline).fixed_views, list(config["train_transform_keys"])
    for key in views:
        if key not in fixed:
            raise ValueError(
                f"saliency_cache: train_transform_keys has {key!r}, another view of an image each time; a cache needs "
                f"a fixed one: {', '.join(fixed)}"
            )
    if list(config["val_transform_keys"]) != views:
        raise ValueError(
            f"saliency_cache: train_transform_keys={views} and val_transform_keys={list(config['val_transform_keys'])} "
            "must be the same"
        )
    return views
