"""What a baseline says of EPIC in it, beside its description."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from torch import nn

from epic_common.config import EpicConfig
from epic_vlp.lightning_epic import LightningEpic
from vlp.baseline import Baseline
from vlp.checkpoint.layout import CheckpointLayout

Config = dict[str, Any]
TeacherPlan = Callable[[dict[str, Any], Config], dict[str, Any]]


@dataclass(frozen=True, kw_only=True)
class EpicParts:
    """EPIC in a baseline.

    Attributes:
        epic: its step.
        teacher: config -> the model that answers what EPIC asks of a teacher (epic_common.teacher.VisionLanguageModel).
        check_run: (config, settings) refuses a run that cannot have EPIC: none of pre-training, or without the MLM head
            that "VLM (SAS)" draws words from.
        as_teacher: (path, config, settings) -> what differs in the config that the teacher of a file is built from.
        text_width: config -> width of the student's text states.
        image_width: config -> width of its image [CLS] feature before fusion.
        text_encoder: the config key that names tokenizer and text encoder.
        fusion_layers: config -> how many layers ``epic.saliency_layer`` can count.
        longest_text: the config key that says how long a text may be; None = the text encoder alone decides.
        image_encoder: whether the baseline encodes the image before fusion.
        text_ends_with_sep: whether its sentences end with [SEP] (</s>); if not, the generator gets one for itself,
            unless ``epic.append_sep`` says otherwise.
        momentum_model: whether it has a momentum model of its own, which is then that of ``epic.teacher="momentum"``.
        fixed_views: transform keys that draw nothing: the same view of an image in every epoch and beside every other.
        cached_views: what of a config a cached score depends on beside teacher and tokenizer; it refuses a config with
            views that are drawn. None = that of Arrow tables and their ``fixed_views``.
        cache_command: what builds a saliency cache, for messages.
        switch: how a command switches EPIC on.
        settings: the class of its settings.
        teacher_plan: (batch, config) -> what the teacher wants to know of a CPU batch beside the student's plan.
        teacher_layout: what the teacher is of its files, where it is not the whole model; None = that of the baseline.
    """

    epic: type[LightningEpic]
    teacher: Callable[[Config], nn.Module]
    check_run: Callable[[Mapping[str, Any], EpicConfig], None]
    as_teacher: Callable[[str, Mapping[str, Any], EpicConfig], Config]
    text_width: Callable[[Mapping[str, Any]], int]
    image_width: Callable[[Mapping[str, Any]], int]
    text_encoder: str
    fusion_layers: Callable[[Mapping[str, Any]], int]
    longest_text: str | None
    image_encoder: bool
    text_ends_with_sep: bool
    momentum_model: bool
    fixed_views: tuple[str, ...]
    switch: str
    cached_views: Callable[[Mapping[str, Any]], Config] | None = None
    cache_command: str = "python epic_saliency_cache.py with <this command line, and teacher_path>"
    settings: type[EpicConfig] = EpicConfig
    teacher_plan: TeacherPlan | None = None
    teacher_layout: CheckpointLayout | None = None

    def layout_of_teacher(self, baseline: Baseline) -> CheckpointLayout:
        """What the teacher's files look like."""
        return self.teacher_layout or baseline.layout


def settings_of(baseline: Baseline, config: Mapping[str, Any]) -> EpicConfig:
    """EPIC's settings of a run, as the baseline has them; it is off where the run's script has no such keys.

    Raises:
        ValueError: naming ``epic.<field>``: a value, a combination, or what the baseline has no part for.
    """
    parts = parts_of(baseline)
    return parts.settings.from_dict(config.get("epic", {})).for_baseline(
        baseline.title,
        image_encoder=parts.image_encoder,
        text_ends_with_sep=parts.text_ends_with_sep,
        momentum_model=parts.momentum_model,
    )


def parts_of(baseline: Baseline) -> EpicParts:
    """EPIC's parts of a baseline that has it."""
    assert isinstance(baseline.extension, EpicParts), f"{baseline.title} has no EPIC"
    return baseline.extension
