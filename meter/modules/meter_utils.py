"""METER's optimiser groups and schedule (docs/official/meter.md §6)."""

from __future__ import annotations

from typing import Any

from meter.modules.meter_model import MeterModel
from vlp.sacred_dialect.optimization import Optimization, scheduled
from vlp.training.param_groups import parameter_groups

HEAD_NAMES = ["vqa_classifier", "nlvr2_classifier", "mlm_score", "itm_score", "snli_classifier"]
CROSS_MODAL_NAMES = ["cross_modal"]


def set_schedule(model: MeterModel) -> Optimization:
    """The official optimiser over the six official groups, and its per-step schedule."""
    c = model.config
    multiplied = [(HEAD_NAMES, c["lr_mult_head"]), (CROSS_MODAL_NAMES, c["lr_mult_cross_modal"])]
    groups: list[dict[str, Any]] = parameter_groups(
        model.official_named_parameters(), c["learning_rate"], c["weight_decay"], multiplied
    )
    # EPIC >
    if model.epic is not None:
        groups = model.epic.own_groups(groups, c["learning_rate"], c["lr_mult_head"])
    # < EPIC
    return scheduled(groups, model)
