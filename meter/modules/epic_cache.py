"""METER's side of the saliency cache: what its scores depend on, and the key of a pair in a batch.

METER pre-trains on fixed views (resize, centre crop), so a frozen teacher gives a pair the same scores in every epoch.
"""

from __future__ import annotations

import logging
from typing import Any

from torch import Tensor
from transformers import PreTrainedTokenizerBase

from epic_common.config import EpicConfig
from epic_common.saliency_cache import (
    CachedTeacher,
    Pairs,
    SaliencyCache,
    SaliencyCacheError,
    pair_key,
    tokenizer_fingerprint,
)
from meter.datamodules.multitask_datamodule import MTDataModule
from meter.modules.meter_module import METERTransformerSS
from vlp.data.errors import DataError
from vlp.training.weights import sha256_of_file

log = logging.getLogger(__name__)

COMMAND = "python epic_saliency_cache.py with <this command line, and teacher_path>"
# Square and without a draw: the same tensor in every epoch and beside every other image.
FIXED_VIEWS = ("clip", "imagenet", "vit")


def identity(config: dict[str, Any], settings: EpicConfig, tokenizer: PreTrainedTokenizerBase) -> dict[str, Any]:
    """All that the scores of a pair depend on, beside its image and caption; without ``teacher_path`` not the teacher.

    Raises:
        ValueError: the run does not ask for saliency, or its image views are not fixed; names the key.
    """
    if not settings.enabled or settings.masking != "saliency":
        raise ValueError("saliency_cache: only EPIC with epic.masking=saliency reads saliency (named config epic)")
    views = list(config["train_transform_keys"])
    for key in views:
        if key not in FIXED_VIEWS:
            raise ValueError(
                f"saliency_cache: train_transform_keys has {key!r}, another view of an image each time; a cache needs "
                f"a fixed one: {', '.join(FIXED_VIEWS)}"
            )
    if list(config["val_transform_keys"]) != views:
        raise ValueError(
            f"saliency_cache: train_transform_keys={views} and val_transform_keys={list(config['val_transform_keys'])} "
            "must be the same"
        )
    teacher = {"teacher_sha256": sha256_of_file(config["teacher_path"])} if config["teacher_path"] else {}
    return {
        "baseline": "meter",
        **teacher,
        "epic.saliency_layer": settings.saliency_layer,
        "tokenizer": tokenizer_fingerprint(tokenizer),
        "max_text_len": config["max_text_len"],
        "image_size": config["image_size"],
        "transform_keys": views,
    }


class MeterCachedTeacher(CachedTeacher):
    """A pair that the cache does not have is an error of the data, which ends a run in one line."""

    def saliency(self, batch: dict[str, Any]) -> Tensor:
        """Raw scores of Eq. 8, (B, n).

        Raises:
            DataError: a pair is not in the cache; names it.
        """
        try:
            return super().saliency(batch)
        except SaliencyCacheError as error:
            raise DataError(str(error)) from error


def load_cached_teacher(
    config: dict[str, Any], settings: EpicConfig, tokenizer: PreTrainedTokenizerBase
) -> CachedTeacher:
    """The teacher of the folder ``saliency_cache``; none of its weights are loaded.

    Raises:
        ValueError: the run cannot read a cache, or this one: absent, unfinished, damaged, of another teacher, layer,
            tokenizer, text length or image view; names what differs.
    """
    expected = identity(config, settings, tokenizer)
    cache = SaliencyCache(config["saliency_cache"], COMMAND)
    cache.check(expected)
    made_in, wanted = str(cache.manifest["precision"]), str(config["precision"])
    note = f"; computed with precision={made_in}, this run has {wanted}" if made_in != wanted else ""
    teacher = MeterCachedTeacher(cache, pairs_of)
    log.info("[epic] teacher read from %s, %d pairs, sha256 %s%s", cache.folder, len(cache), teacher.sha256, note)
    return teacher


def pairs_of(batch: dict[str, Any]) -> Pairs:
    """The pairs of a batch of data sets that ``identify`` their files."""
    files, captions = batch["file_digest"], batch["text"]
    keys = [pair_key(digest, caption) for digest, caption in zip(files, captions, strict=True)]
    names = [f"{origin}, caption {caption!r}" for origin, caption in zip(batch["origin"], captions, strict=True)]
    return Pairs(keys, batch["text_masks"], names)


def identify_pairs(model: METERTransformerSS, datamodule: MTDataModule) -> None:
    """Let the loaders add what the cache's keys are made of, if the model reads a cache."""
    if model.epic is not None and isinstance(model.epic.teacher, CachedTeacher):
        for mixed in datamodule.sets.values():
            mixed.identify()
