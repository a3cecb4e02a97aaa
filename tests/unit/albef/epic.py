"""Small ALBEFs with EPIC, as attach_epic builds them."""

from __future__ import annotations

from typing import Any

import torch

from albef.baseline import BASELINE
from albef.models.epic_albef import EPIC, AlbefTeacher
from epic_common.config import PRESETS
from epic_common.vocabulary import Vocabulary
from epic_vlp.parts import settings_of
from tests.unit.albef.small import BERT, CLS, MASK, PAD, SEP, VOCAB, config_of, pretraining
from tests.unit.albef.small import pretraining_batch as batch_of
from tests.unit.fusion_epic import add_epic
from tests.unit.small_parts import stirred

VOCABULARY = Vocabulary(MASK, PAD, (PAD, 100, CLS, SEP, MASK), VOCAB, SEP)
SIZES: dict[str, Any] = {"bert_config": {**BERT, "num_hidden_layers": 5}}  # of which three are fusion layers
VARIANTS: list[tuple[str, dict[str, Any]]] = [(name, {}) for name in sorted(set(PRESETS) - {"vanilla"})] + [
    ("epic", {"teacher": "momentum"})
]
IDS = [*(name for name, _ in VARIANTS[:-1]), "momentum"]
__all__ = ["batch_of"]


def teacher(seed: int = 1, **changes: Any) -> AlbefTeacher:
    """Weights of its own."""
    torch.manual_seed(seed)
    return stirred(AlbefTeacher(config_of(**{**SIZES, **changes})))


def student(preset: str | None = None, changes: dict[str, Any] | None = None, **keys: Any) -> Any:
    """A small ALBEF, with the EPIC of a preset if one is named; ``keys`` are those of its config."""
    model = pretraining(**{**SIZES, **keys})
    if preset is None:
        return model
    settings = settings_of(BASELINE, {"epic": {**PRESETS[preset], **(changes or {})}})
    return add_epic(model, EPIC, settings, VOCABULARY, teacher)
