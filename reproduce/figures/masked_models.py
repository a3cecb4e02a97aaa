"""The two models of Fig. 2: one sees the image, one the text alone; both predict the same masked tokens."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple, cast

from torch import Tensor, nn

from epic_common.config import EpicConfig
from epic_common.generator import LanguageModelGenerator
from epic_common.teacher import VisionLanguageModel
from epic_vlp.attach import load_generator
from epic_vlp.frozen_teacher import load_teacher
from epic_vlp.parts import parts_of, settings_of
from vlp.baseline import Config
from vlp.data.collate import Batch

# (batch, its sentences as they are read (B, n), places (K,) in (B·n), ascending) -> vocabulary logits (K, V).
Predict = Callable[[Batch, Tensor, Tensor], Tensor]


class Models(NamedTuple):
    """The two models; the numbers know them by these names."""

    with_image: nn.Module
    text_only: LanguageModelGenerator

    def predict(self) -> dict[str, Predict]:
        """How each is asked for masked tokens."""
        seeing = cast(VisionLanguageModel, self.with_image)
        return {"with_image": seeing.mlm_logits_at, "text_only": self._of_text}

    def _of_text(self, batch: Batch, ids: Tensor, places: Tensor) -> Tensor:
        return self.text_only.logits(ids, batch["text_masks"], places)


def new_models(baseline: Any, config: Config, tokenizer: Any) -> tuple[Models, Any]:
    """Both as pre-training starts, and the baseline's own model, whose weights the first of them started from.

    Masked language modelling alone needs no more of ALBEF and X-VLM than their two encoders; METER and ViLT are that
    model themselves.

    Raises:
        ValueError, OSError, WeightsError: what the configuration starts from cannot be had.
    """
    with_image = parts_of(baseline).teacher(config)
    own: Any = with_image if isinstance(with_image, baseline.model) else baseline.model(config)
    if own is not with_image:
        weights = own.state_dict()
        with_image.load_state_dict({name: weights[name] for name in with_image.state_dict()})
    return Models(with_image, language_model(baseline, config, tokenizer)), own


def loaded_models(baseline: Any, config: Config, tokenizer: Any, checkpoint: Path, name: str) -> Models:
    """A checkpoint with its MLM head, and the masked language model ``name``, both frozen.

    Raises:
        WeightsError: the checkpoint is of another model, does not fit, or lacks the head.
        ValueError, HubError: the language model cannot be had, or has other tokens.
    """
    settings = EpicConfig(enabled=True, masking="uniform", replacement="vlm")
    teacher = load_teacher(baseline, {**config, "teacher_path": str(checkpoint)}, settings, tokenizer)
    return Models(teacher.module, language_model(baseline, config, tokenizer, "fixed", name))


def language_model(
    baseline: Any, config: Config, tokenizer: Any, training: str = "finetune", name: str = ""
) -> LanguageModelGenerator:
    """The masked language model of the baseline's text encoder, or ``name``, which has the same tokens.

    Args:
        training: "finetune", or "fixed" = frozen, in eval mode.

    Raises:
        ValueError, HubError, WeightsError: it cannot be had, or has other tokens.
    """
    epic = {"enabled": True, "masking": "uniform", "generator": name, "generator_training": training}
    settings = settings_of(baseline, {"epic": epic})
    return cast(LanguageModelGenerator, load_generator(baseline, config, settings, tokenizer))
