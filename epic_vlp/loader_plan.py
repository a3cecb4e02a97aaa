"""What EPIC has the loaders add to a batch, so that no device is asked: |M|, cached scores, further plans."""

from __future__ import annotations

from typing import Any

from epic_common.objective import MaskCount
from epic_common.saliency_cache.reader import CachedTeacher
from epic_common.separator import mask_with_sep
from epic_vlp.lightning_epic import MASKED_COUNT, SCORES, WITH_SEP, LightningEpic
from epic_vlp.parts import Config, TeacherPlan
from vlp.data.trim import trim_padding
from vlp.nn.packed_text import TextPlan

Batch = dict[str, Any]


class EpicPlan:
    """A plan of the loaders (see ``vlp.data.collate.Collator``), made of a run's EPIC."""

    def __init__(self, epic: LightningEpic, config: Config, of_teacher: TeacherPlan | None) -> None:
        self.count = MaskCount(epic.config, epic.vocabulary)
        self.cached = epic.teacher if isinstance(epic.teacher, CachedTeacher) else None
        self.reads_with_sep = epic.config.replacement == "lm" and not epic.config.image_conditioned
        loads_teacher = self.cached is None and epic.config.needs_teacher
        self.config, self.of_teacher = config, of_teacher if loads_teacher else None

    def __call__(self, batch: Batch) -> Batch:
        """The keys to add to a CPU batch.

        Raises:
            DataError: a pair is not in the cache; names it.
        """
        added: Batch = {MASKED_COUNT: self.count(batch["text_ids"], batch["text_masks"])}
        if self.cached is not None:
            added[SCORES] = self.cached.saliency(batch)
        if self.of_teacher is not None:
            added |= self.of_teacher(batch, self.config)
        if self.count.config.append_sep and self.reads_with_sep:
            (mask,) = trim_padding(batch["text_masks"])
            added[WITH_SEP] = TextPlan.of(mask_with_sep(mask))
        return added


def plan_batches(epic: LightningEpic, datamodule: Any, config: Config, of_teacher: TeacherPlan | None) -> None:
    """Have the loaders of ``datamodule`` plan EPIC's part of every batch, with the files that a cache's keys name."""
    if isinstance(epic.teacher, CachedTeacher):
        for mixed in datamodule.sets.values():
            mixed.identify()
    datamodule.collate.plans.append(EpicPlan(epic, config, of_teacher))
