"""EPIC's configuration: every choice that the paper or its silence leaves open is one field, with its default."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from dataclasses import fields, replace
from typing import Annotated, Any, Literal, TypeVar

from annotated_types import Ge
from pydantic import ValidationError
from pydantic.dataclasses import dataclass

from epic_common.strict import STRICT, Amount, PositiveAmount, Share, in_words

C = TypeVar("C", bound="EpicConfig")


Reduction = Literal["mean_tokens", "sum_per_sentence"]


@dataclass(frozen=True, config=STRICT)
class EpicConfig:
    """All settings of EPIC; the defaults are the paper's EPIC, switched off. ``docs/choices.md`` gives the reasons.

    Raises:
        ValueError: a value has the wrong type or range, or two values contradict each other; names ``epic.<field>``.
    """

    # False = the vanilla baseline, number for number
    enabled: bool = False

    # -- which tokens are masked (docs/method.md §2, steps 1-3)
    # what M is drawn by: "saliency" (Eq. 8), "uniform", "surprise" = -log p of each token under the image-blind f_L, or
    # "frequency" = how rare it is in the run's captions
    masking: Literal["saliency", "uniform", "surprise", "frequency"] = "saliency"
    # m = ceil(mask_ratio * len(sentence)); the paper's 0.35
    mask_ratio: Share = 0.35
    # who gives Eq. 8's q and k: "checkpoint" = a frozen pre-trained model, "momentum" = the student's running average
    teacher: Literal["checkpoint", "momentum"] = "checkpoint"
    # of that average what stays in every step: average <- decay·average + (1 - decay)·student; ALBEF has its own
    teacher_decay: Share = 0.995
    # fusion layer whose own q and k give Eq. 8; -2 = the penultimate
    saliency_layer: int = -2
    # divides q·k, surprise or rarity before the softmax; 1.0 as Eq. 8 is printed, sqrt(d_h) = the attention's own scale
    saliency_temperature: PositiveAmount = 1.0
    # passes of f_L that give the surprise, each with another k-th part of the words masked; len(sentence) = each alone
    surprise_passes: Annotated[int, Ge(2)] = 3
    # True: [CLS]/<s> and [SEP]/</s> count in len(sentence) and can be masked
    mask_special_tokens: bool = False

    # -- what replaces them (steps 4-6)
    # "lm" (Eq. 4-5), "uniform" over the vocabulary, or "vlm" = an earlier snapshot of the student (SAS)
    replacement: Literal["lm", "uniform", "vlm"] = "lm"
    # name or folder of the Hugging Face masked LM; "" = the name of the baseline's own text encoder
    generator: str = ""
    # "finetune" by L_GEN during pre-training, "fixed" as released, "trained" = fitted to the captions before and frozen
    generator_training: Literal["finetune", "fixed", "trained"] = "finetune"
    # True = "LM (cond.)": the LM's first input embedding is the student's image [CLS] feature
    image_conditioned: bool = False
    # True: the trained generator runs with dropout, in the one forward that serves sampling and L_GEN
    generator_dropout: bool = True
    # temperature of the softmax that replacements are drawn from; 1.0 = the full softmax of Eq. 5
    sampling_temperature: PositiveAmount = 1.0
    # True: special tokens can be drawn as replacements
    draw_special_tokens: bool = False
    # True: the generator alone reads every sentence with [SEP] behind it; None = where the baseline's have none
    append_sep: bool | None = None
    # steps between two snapshots of the student (replacement "vlm"); 0 = one epoch
    sas_refresh_steps: Annotated[int, Ge(0)] = 0

    # -- the losses (steps 6-9)
    # lambda, the weight of L_ITC; the paper's 8
    itc_weight: Amount = 8.0
    # "mean_tokens" = over the batch's valid tokens, "sum_per_sentence" = Eq. 2's sum, averaged over sentences
    itc_reduction: Reduction = "mean_tokens"
    # "linear" = Eq. 1's one vector, "dense" = ELECTRA's dense + activation + vector
    itc_head: Literal["linear", "dense"] = "linear"
    # True adds a bias to Eq. 1's beta·h_i
    itc_head_bias: bool = True
    # True: special tokens are judged in L_ITC too (padding never is)
    itc_special_tokens: bool = False
    # weight of L_GEN; 1 by Eq. 7
    generator_weight: Amount = 1.0
    # "mean_tokens" = over all masked tokens of the batch, "sum_per_sentence" = Eq. 7's sum, averaged over sentences
    generator_reduction: Reduction = "mean_tokens"

    # -- what only a baseline can apply
    # learning-rate multiplier of the ITC head; 0 = that of the baseline's other heads
    itc_head_lr_mult: Amount = 0.0
    # learning-rate multiplier of the generator
    generator_lr_mult: Amount = 1.0

    def __post_init__(self) -> None:
        is_lm, momentum, surprise = self.replacement == "lm", self.teacher == "momentum", self.masking == "surprise"
        default = {field.name: field.default for field in fields(self)}
        rules = (
            (self.image_conditioned and not is_lm, "image_conditioned=True", "replacement='lm'"),
            (
                self.image_conditioned and self.generator_training != "finetune",
                "image_conditioned=True",
                "generator_training='finetune' (its image map is trained by L_GEN)",
            ),
            (
                self.generator_training != "finetune" and not is_lm,
                f"generator_training={self.generator_training!r}",
                "replacement='lm'",
            ),
            (bool(self.generator) and not is_lm, f"generator={self.generator!r}", "replacement='lm'"),
            (
                self.sas_refresh_steps != 0 and self.replacement != "vlm",
                f"sas_refresh_steps={self.sas_refresh_steps}",
                "replacement='vlm'",
            ),
            (momentum and self.masking != "saliency", "teacher='momentum'", "masking='saliency'"),
            (
                momentum and self.replacement == "vlm",
                "teacher='momentum'",
                "replacement='lm' or 'uniform' (the first snapshot of 'vlm' is a checkpoint)",
            ),
            (
                not momentum and self.teacher_decay != default["teacher_decay"],
                f"teacher_decay={self.teacher_decay}",
                "teacher='momentum'",
            ),
            (surprise and not is_lm, "masking='surprise'", "replacement='lm' (the surprise is that of its f_L)"),
            (
                surprise and self.image_conditioned,
                "masking='surprise'",
                "image_conditioned=False (the surprise is that of a language model that does not see the image)",
            ),
            (
                not surprise and self.surprise_passes != default["surprise_passes"],
                f"surprise_passes={self.surprise_passes}",
                "masking='surprise'",
            ),
        )
        for broken, setting, needed in rules:
            if broken:
                raise ValueError(f"epic.{setting} needs epic.{needed}")

    @property
    def trains_generator(self) -> bool:
        """Whether L_GEN (Eq. 7) is part of the total."""
        return self.replacement == "lm" and self.generator_training == "finetune"

    @property
    def scores_from_teacher(self) -> bool:
        """Whether a pre-trained teacher gives Eq. 8's scores."""
        return self.masking == "saliency" and self.teacher == "checkpoint"

    @property
    def scores_from_momentum(self) -> bool:
        """Whether the student's own running average gives Eq. 8's scores."""
        return self.masking == "saliency" and self.teacher == "momentum"

    @property
    def needs_teacher(self) -> bool:
        """Whether a run needs a pre-trained teacher: for Eq. 8, or as the first snapshot of "VLM (SAS)"."""
        return self.enabled and (self.scores_from_teacher or self.replacement == "vlm")

    def for_baseline(
        self: C, name: str, *, image_encoder: bool, text_ends_with_sep: bool, momentum_model: bool = False
    ) -> C:
        """These settings in the baseline ``name``, which says what ``append_sep`` is where it is unset.

        Args:
            image_encoder: the baseline encodes the image before fusion (ViLT does not).
            text_ends_with_sep: its sentences end with [SEP] (those of ALBEF and X-VLM do not).
            momentum_model: it keeps a running average of its own weights (ALBEF), with a decay of its own.

        Raises:
            ValueError: naming ``epic.<field>``, a setting that the baseline has no part for.
        """
        if self.image_conditioned and not image_encoder:
            raise ValueError(f"epic.image_conditioned=True is not possible with {name}: it has no image encoder")
        if self.append_sep and text_ends_with_sep:
            raise ValueError(f"epic.append_sep=True is not possible with {name}: its sentences end with [SEP] already")
        if momentum_model and self.teacher_decay != type(self)().teacher_decay:
            raise ValueError(
                f"epic.teacher_decay={self.teacher_decay} is not possible with {name}: its own key momentum says it"
            )
        if self.append_sep is not None or not self.enabled:
            return self
        return replace(self, append_sep=self.replacement == "lm" and not text_ends_with_sep)

    @classmethod
    def from_dict(cls: type[C], mapping: Mapping[str, Any]) -> C:
        """Build from plain values, as a launcher's ``epic.<field>=value`` or a saved config gives them.

        Raises:
            ValueError: an unknown field (the nearest known name is given) or a bad value.
        """
        known = [field.name for field in fields(cls)]
        mapping = {name: value for name, value in mapping.items() if name in known or (name, value) not in _RETIRED}
        for name in mapping:
            if name not in known:
                near = difflib.get_close_matches(str(name), known, n=1, cutoff=0.0)[0]
                raise ValueError(f"epic.{name} is not a field of EpicConfig; the nearest is epic.{near}")
        try:
            return cls(**mapping)
        except ValidationError as error:
            raise ValueError(in_words(cls, error, "epic.")) from None

    def to_dict(self) -> dict[str, Any]:
        """Plain values, JSON-ready; the inverse of :meth:`from_dict`."""
        return {field.name: getattr(self, field.name) for field in fields(self)}


@dataclass(frozen=True, config=STRICT)
class RegionEpicConfig(EpicConfig):
    """The settings of a baseline that also reads texts of image regions (X-VLM)."""

    # True: rows of the region stream are corrupted and judged too, with their region in place of the image
    on_regions: bool = False


# Fields that older configs of baselines without regions hold, with the one value that means what their absence means.
_RETIRED = (("on_regions", False),)


# The variants of Tables 4 and 5 (docs/method.md §4), as what differs from the defaults.
PRESETS: dict[str, dict[str, Any]] = {
    "vanilla": {"enabled": False},
    "itc_rand": {"enabled": True, "masking": "uniform", "replacement": "uniform"},
    "itc_lm": {"enabled": True, "masking": "uniform"},
    "epic": {"enabled": True},
    "lm_fixed": {"enabled": True, "generator_training": "fixed"},
    "lm_trained": {"enabled": True, "generator_training": "trained"},
    "lm_cond": {"enabled": True, "image_conditioned": True},
    "vlm_sas": {"enabled": True, "replacement": "vlm"},
}


# Saliency without a pre-trained teacher, which the paper leaves open (docs/method.md §4).
WITHOUT_TEACHER: dict[str, dict[str, Any]] = {
    "momentum": {"enabled": True, "teacher": "momentum"},
    "surprise": {"enabled": True, "masking": "surprise"},
    "frequency": {"enabled": True, "masking": "frequency"},
}


def named_configs() -> dict[str, dict[str, Any]]:
    """The variants as a launcher offers them: ``epic`` and ``epic_<variant>`` -> ``{"epic": what differs}``."""
    variants = {name: settings for name, settings in {**PRESETS, **WITHOUT_TEACHER}.items() if name != "vanilla"}
    return {"epic" if name == "epic" else f"epic_{name}": {"epic": settings} for name, settings in variants.items()}


# As printed; Table 5 calls "EPIC" of Table 4 "LM (fine-tune)".
PAPER_NAMES: dict[str, str] = {
    "vanilla": "vanilla",
    "itc_rand": "ITC (rand.)",
    "itc_lm": "ITC+LM",
    "epic": "EPIC",
    "lm_fixed": "LM (fixed)",
    "lm_trained": "LM (trained)",
    "lm_cond": "LM (cond.)",
    "vlm_sas": "VLM (SAS)",
}
