"""EPIC, the method: saliency masking, masked-LM generation and image-token consistency.

A baseline needs six names: ``EpicConfig``, ``Vocabulary``, ``load_language_model``, ``build_generator``, ``Teacher``
and ``Epic``.
"""

from epic_common.config import PAPER_NAMES, PRESETS, EpicConfig
from epic_common.corruption import Corruption
from epic_common.generator import Vocabulary, build_generator
from epic_common.language_models.load import load_language_model
from epic_common.metrics import EpicMetrics
from epic_common.objective import Epic
from epic_common.saliency import saliency_scores
from epic_common.teacher import Teacher

__all__ = [
    "PAPER_NAMES",
    "PRESETS",
    "Corruption",
    "Epic",
    "EpicConfig",
    "EpicMetrics",
    "Teacher",
    "Vocabulary",
    "build_generator",
    "load_language_model",
    "saliency_scores",
]
