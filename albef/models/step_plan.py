"""What a batch's lengths and MLM labels decide about its step, worked out where the batch is made."""

from __future__ import annotations

from typing import Any

from vlp.data.masking import IGNORED
from vlp.nn.packed_text import TextPlan
from vlp.nn.padding import Queries


def step_plan(batch: dict[str, Any]) -> dict[str, Any]:
    """``plan``: of the sentences (``text``), and MLM's positions (``mlm``) where the batch has its labels."""
    plan: dict[str, Any] = {"text": TextPlan.of(batch["text_masks"])}
    if "text_labels_mlm" in batch:
        plan["mlm"] = Queries.of(batch["text_labels_mlm"] != IGNORED)
    return {"plan": plan}
