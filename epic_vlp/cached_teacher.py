"""The teacher of a run that reads a saliency cache, and the key of a pair in a batch."""

from __future__ import annotations

import logging
from typing import Any

from torch import Tensor
from transformers import PreTrainedTokenizerBase

from epic_common.config import EpicConfig
from epic_common.saliency_cache.identity import Pairs, SaliencyCacheError, pair_key
from epic_common.saliency_cache.reader import CachedTeacher, SaliencyCache
from epic_vlp.cache_identity import identity
from epic_vlp.parts import Config, parts_of
from vlp.baseline import Baseline
from vlp.data.errors import DataError

log = logging.getLogger(__name__)


class RunCachedTeacher(CachedTeacher):
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
    baseline: Baseline, config: Config, settings: EpicConfig, tokenizer: PreTrainedTokenizerBase
) -> CachedTeacher:
    """The teacher of the folder ``saliency_cache``; none of its weights are loaded.

    Raises:
        ValueError: the run cannot read a cache, or this one: absent, unfinished, damaged, of another teacher, layer,
            tokenizer, text length or image view; names what differs.
    """
    expected = identity(baseline, config, settings, tokenizer)
    cache = SaliencyCache(config["saliency_cache"], parts_of(baseline).cache_command)
    cache.check(expected)
    made_in, wanted = str(cache.manifest["precision"]), str(config["precision"])
    note = f"; computed with precision={made_in}, this run has {wanted}" if made_in != wanted else ""
    teacher = RunCachedTeacher(cache, pairs_of)
    log.info("[epic] teacher read from %s, %d pairs, sha256 %s%s", cache.folder, len(cache), teacher.sha256, note)
    return teacher


def pairs_of(batch: dict[str, Any]) -> Pairs:
    """The pairs of a batch of data sets that ``identify`` their files."""
    files, captions = batch["file_digest"], batch["text"]
    keys = [pair_key(digest, caption) for digest, caption in zip(files, captions, strict=True)]
    names = [f"{origin}, caption {caption!r}" for origin, caption in zip(batch["origin"], captions, strict=True)]
    return Pairs(keys, batch["text_masks"], names)
