"""Small X-VLMs with EPIC, as attach_epic builds them."""

from __future__ import annotations

from typing import Any

import torch

from epic_common.config import PRESETS
from epic_common.vocabulary import Vocabulary
from epic_vlp.parts import settings_of
from tests.unit.fusion_epic import add_epic
from tests.unit.small_parts import stirred
from tests.unit.xvlm.small import CLS, MASK, PAD, SEP, TEXT, VOCAB, config_of, pretraining
from xvlm.baseline import BASELINE
from xvlm.models.epic_xvlm import EPIC, XvlmTeacher

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
    settings = settings_of(BASELINE, {"epic": {**PRESETS[preset], **(changes or {})}})
    return add_epic(model, EPIC, settings, VOCABULARY, teacher)
