"""ViLT's optimiser groups and schedule (docs/official/vilt.md §6)."""

from __future__ import annotations

from typing import Any

from vilt.modules.vilt_model import ViltModel
from vlp.sacred_dialect.optimization import Optimization, scheduled
from vlp.training.param_groups import parameter_groups

HEAD_NAMES = ["vqa_classifier", "nlvr2_classifier"]


def set_schedule(model: ViltModel) -> Optimization:
    """The official optimiser over the four official groups, and its per-step schedule."""
    c = model.config
    groups: list[dict[str, Any]] = parameter_groups(
        model.named_parameters(), c["learning_rate"], c["weight_decay"], [(HEAD_NAMES, c["lr_mult"])]
    )
    # EPIC >
    if model.epic is not None:
        groups = model.epic.own_groups(groups, c["learning_rate"], head_factor=1.0)
    # < EPIC
    return scheduled(groups, model)
