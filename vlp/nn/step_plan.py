"""What a batch's lengths and MLM labels decide about its step, worked out where the batch is made."""

from __future__ import annotations

from typing import Any

import torch

from vlp.data.masking import IGNORED
from vlp.nn.packed_text import TextPlan
from vlp.nn.padding import Queries


def plan_of(batch: dict[str, Any]) -> dict[str, Any]:
    """The plan that a batch's loader has made, else one that is made now."""
    return batch["plan"] if "plan" in batch else step_plan(batch)["plan"]


def step_plan(batch: dict[str, Any]) -> dict[str, Any]:
    """``plan``: of the sentences (``text``), MLM's positions (``mlm``) and VQA's answers, where the batch has them.

    Of answers: their tokens (``answers``), those that predict a next one (``answer_reads``), and the question of each
    answer (``answer_questions``, (A,) int64).
    """
    plan: dict[str, Any] = {"text": TextPlan.of(batch["text_masks"])}
    if "text_labels_mlm" in batch:
        plan["mlm"] = Queries.of(batch["text_labels_mlm"] != IGNORED)
    if "answer_counts" in batch:
        counts, masks = torch.tensor(batch["answer_counts"]), batch["answer_masks"].bool()
        plan["answers"] = TextPlan.of(masks)
        plan["answer_reads"] = Queries.of(torch.cat([masks[:, 1:], torch.zeros_like(masks[:, :1])], dim=1))
        plan["answer_questions"] = torch.arange(len(counts)).repeat_interleave(counts)
    return {"plan": plan}
