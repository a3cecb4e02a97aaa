"""What a baseline says of EPIC in it, beside its description."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from torch import nn

from epic_vlp.lightning_epic import LightningEpic
from vlp.baseline import Baseline

Config = dict[str, Any]
TeacherPlan = Callable[[dict[str, Any], Config], dict[str, Any]]


@dataclass(frozen=True)
class EpicParts:
    """EPIC in a baseline.

    Attributes:
        epic: its step.
        teacher: config -> the model that answers what EPIC asks of a teacher (epic_common.teacher.VisionLanguageModel).
        fusion_layers: the config key that says how many layers ``epic.saliency_layer`` can count.
        image_encoder: whether the baseline encodes the image before fusion.
        text_ends_with_sep: whether its sentences end with [SEP] (</s>).
        teacher_plan: (batch, config) -> what the teacher wants to know of a CPU batch beside the student's plan.
        fixed_views: transform keys that draw nothing: the same view of an image in every epoch and beside every other.
    """

    epic: type[LightningEpic]
    teacher: Callable[[Config], nn.Module]
    fusion_layers: str
    image_encoder: bool
    text_ends_with_sep: bool
    fixed_views: tuple[str, ...]
    teacher_plan: TeacherPlan | None = None


def parts_of(baseline: Baseline) -> EpicParts:
    """EPIC's parts of a baseline that has it."""
    assert isinstance(baseline.extension, EpicParts), f"{baseline.title} has no EPIC"
    return baseline.extension
