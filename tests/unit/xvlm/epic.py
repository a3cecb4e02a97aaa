"""Small X-VLMs with EPIC, as attach_epic builds them."""

from __future__ import annotations

from typing import Any

import torch

from epic_common.config import PRESETS, RegionEpicConfig
from epic_common.generator import build_generator
from epic_common.teacher import SasSnapshot, Teacher
from epic_common.vocabulary import Vocabulary
from epic_vlp.loader_plan import EpicPlan
from tests.unit.epic.tiny import language_model
from tests.unit.small_parts import Batch, stirred
from tests.unit.xvlm.small import CLS, MASK, PAD, SEP, TEXT, VOCAB, config_of, pretraining
from vlp.nn.step_plan import step_plan
from xvlm.models.epic_xvlm import EPIC, XvlmEpic, XvlmTeacher

VOCABULARY = Vocabulary(MASK, PAD, (PAD, 100, CLS, SEP, MASK), VOCAB, SEP)
SIZES: dict[str, Any] = {"text_config": {**TEXT, "num_hidden_layers": 5}}  # of which three are fusion layers
VARIANTS = sorted(set(PRESETS) - {"vanilla"})


def teacher(seed: int = 1, **changes: Any) -> XvlmTeacher:
    """Weights of its own."""
    torch.manual_seed(seed)
    return stirred(XvlmTeacher(config_of(**{**SIZES, **changes})))


def student(preset: str | None = None, changes: dict[str, Any] | None = None, **keys: Any) -> Any:
    """A small X-VLM, with the EPIC of a preset if one is named; ``keys`` are those of its config."""
    model = pretraining(**{**SIZES, **keys})
    if preset is None:
        return model.eval()
    settings = RegionEpicConfig.from_dict({**PRESETS[preset], "append_sep": True, **(changes or {})})
    settings.check_baseline("X-VLM", image_encoder=True, text_ends_with_sep=False)
    lm = language_model("bert", size=VOCAB) if settings.replacement == "lm" else None
    held = Teacher(teacher(), settings.saliency_layer) if settings.needs_teacher else None
    text, image = EPIC.text_width(model.config), EPIC.image_width(model.config)
    model.epic = XvlmEpic(
        settings,
        VOCABULARY,
        text,
        build_generator(settings, VOCABULARY, lm, image),
        teacher=held if settings.scores_from_teacher else None,
        snapshot=SasSnapshot(held) if settings.replacement == "vlm" and held is not None else None,
    )
    return model.eval()


def planned(model: Any, batch: Batch) -> Batch:
    """The batch as the loader of a run makes it."""
    batch = {**batch, **step_plan(batch)}
    return batch if model.epic is None else {**batch, **EpicPlan(model.epic, model.config, None)(batch)}
