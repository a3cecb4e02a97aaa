"""EPIC, the method: saliency masking, masked-LM generation and image-token consistency.

A baseline needs six names: ``EpicConfig``, ``Vocabulary``, ``load_language_model``, ``build_generator``, ``Teacher``
and ``Epic``.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from epic_common.config import PAPER_NAMES, PRESETS, EpicConfig

if TYPE_CHECKING:
    from epic_common.corruption import Corruption
    from epic_common.generator import build_generator
    from epic_common.language_models.load import load_language_model
    from epic_common.metrics import EpicMetrics
    from epic_common.objective import Epic
    from epic_common.saliency import saliency_scores
    from epic_common.teacher import Teacher
    from epic_common.vocabulary import Vocabulary

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

_MODULES = {
    "Corruption": "corruption",
    "Epic": "objective",
    "EpicMetrics": "metrics",
    "Teacher": "teacher",
    "Vocabulary": "vocabulary",
    "build_generator": "generator",
    "load_language_model": "language_models.load",
    "saliency_scores": "saliency",
}


def __getattr__(name: str) -> Any:
    """Import torch only for names that need it: reading a configuration needs ``EpicConfig`` alone."""
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)
