"""Samples of regions as a batch with a fixed number of rows.

Source: docs/official/xvlm.md §3.7.
"""

from __future__ import annotations

import logging
import random
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import torch

from vlp.data.collate import Batch, Plan
from vlp.data.draws import SampleKey
from vlp.data.json.collate import stack
from vlp.data.jsonl.regions import Region
from vlp.data.jsonl.texts import text_batch

Sample = dict[str, Any]
log = logging.getLogger(__name__)


class _Row(NamedTuple):
    """A region, the number of its image in the batch, and the key of its sample."""

    region: Region
    group: int
    key: SampleKey


class RegionCollator:
    """Samples of :class:`~vlp.data.jsonl.regions.RegionReader` -> batch of B = ``size`` rows of I <= B images.

    * ``image``: float32 (I, 3, res, res); ``idx_to_group_img``: int64 (B,), the image of each row
    * ``text`` …: see :func:`~vlp.data.jsonl.texts.text_batch`
    * ``image_atts``: int64 (B, P + 1); ``target_bbox``: float32 (B, 4), (cx, cy, w, h) as shares; ``is_image``: int64
      (B,)
    * ``dataset``, ``index``: lists, the name of a row's file and its first byte there

    Of more rows B are drawn, of fewer some or all are there again: every process has as many. An image whose rows are
    all left out stays. Last, each of ``plans`` adds its keys.
    """

    def __init__(self, size: int, pad: int, plans: Iterable[Plan] = ()) -> None:
        self.size, self.pad, self.plans = size, pad, list(plans)
        self._warned = False

    def __call__(self, samples: Sequence[Sample]) -> Batch:
        shown = [sample for sample in samples if sample["regions"]]
        rows = [
            _Row(region, group, sample["_key"]) for group, sample in enumerate(shown) for region in sample["regions"]
        ]
        rows = [rows[number] for number in self.picked(len(rows), samples[0]["_key"].rng("rows"))]
        batch: Batch = {
            "image": stack([[sample["image"]] for sample in shown]),
            "idx_to_group_img": torch.tensor([row.group for row in rows]),
            **text_batch([row.region.text for row in rows], self.pad),
            "image_atts": torch.tensor([row.region.atts for row in rows]),
            "target_bbox": torch.tensor([row.region.target for row in rows]),
            "is_image": torch.tensor([row.region.is_image for row in rows]),
            "dataset": [row.key.dataset for row in rows],
            "index": [row.key.index for row in rows],
        }
        for plan in self.plans:
            batch |= plan(batch)
        return batch

    def picked(self, rows: int, rng: random.Random) -> list[int]:
        """Which of so many rows make the batch."""
        numbers, missing = range(rows), self.size - rows
        if missing <= 0:
            return rng.sample(numbers, self.size)
        if not self._warned:
            self._warned = True
            log.warning(
                "a batch of regions has %d rows of its own, the other %d are there twice: raise regions.max_images or "
                "lower regions.batch_size (said once)",
                rows,
                missing,
            )
        if missing <= rows:
            return [*numbers, *rng.sample(numbers, missing)]
        return [number % rows for number in range(self.size)]
