"""What EPIC has the loaders add to a batch, so that no device is asked: |M|, cached scores, further plans."""

from __future__ import annotations

from typing import Any

from epic_common.objective import MaskCount
from epic_common.saliency_cache.reader import CachedTeacher
from epic_common.separator import mask_with_sep
from epic_vlp.lightning_epic import MASKED_COUNT, SCORES, WITH_SEP, LightningEpic
from epic_vlp.parts import Config, TeacherPlan
from epic_vlp.running_average import RunningAverage
from vlp.nn.packed_text import TextPlan

Batch = dict[str, Any]


class EpicPlan:
    """A plan of the loaders (see ``vlp.data.collate.Collator``), made of a run's EPIC."""

    def __init__(self, epic: LightningEpic, config: Config, of_teacher: TeacherPlan | None) -> None:
        self.count = MaskCount(epic.config, epic.vocabulary)
        self.cached = epic.teacher if isinstance(epic.teacher, CachedTeacher) else None
        average = isinstance(epic.teacher, RunningAverage)
        loads_teacher = self.cached is None and (average or epic.config.needs_teacher)
        self.config, self.of_teacher = config, of_teacher if loads_teacher else None

    def __call__(self, batch: Batch) -> Batch:
        """The keys to add to a CPU batch, which has the plan of the student's step.

        Raises:
            DataError: a pair is not in the cache; names it.
        """
        settings = self.count.config
        added: Batch = {MASKED_COUNT: self.count(batch["text_ids"], batch["text_masks"])}
        if self.cached is not None:
            added[SCORES] = self.cached.saliency(batch)
        if self.of_teacher is not None:
            added |= self.of_teacher(batch, self.config)
        # "LM (cond.)" is the one language model that goes without a plan
        if settings.append_sep and settings.replacement == "lm" and not settings.image_conditioned:
            added[WITH_SEP] = TextPlan.of(mask_with_sep(batch["plan"]["text"].tokens.mask))
        return added


def plan_batches(epic: LightningEpic, datamodule: Any, config: Config, of_teacher: TeacherPlan | None) -> None:
    """Have the loaders of ``datamodule`` plan EPIC's part of every batch, with the files that a cache's keys name."""
    if isinstance(epic.teacher, CachedTeacher):
        epic.identify(datamodule)
    plan = EpicPlan(epic, config, of_teacher)
    for collate in epic.collators(datamodule):
        collate.plans.append(plan)
