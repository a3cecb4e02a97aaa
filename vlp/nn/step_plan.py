"""What a batch's lengths and MLM labels decide about its step, worked out where the batch is made."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

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
        counts = torch.tensor(batch["answer_counts"])
        plan["answers"] = TextPlan.of(batch["answer_masks"])
        plan["answer_reads"] = predicting(batch["answer_masks"])
        plan["answer_questions"] = torch.arange(len(counts)).repeat_interleave(counts)
    return {"plan": plan}


def caption_plan(batch: dict[str, Any], prompt_length: int = 1) -> dict[str, Any]:
    """``plan`` of captions: :func:`step_plan`, and the tokens that predict one behind the prompt (``next``).

    Args:
        prompt_length: tokens of the prompt, ``[CLS]`` among them.
    """
    plan = step_plan(batch)["plan"]
    return {"plan": {**plan, "next": predicting(batch["text_masks"], prompt_length)}}


def predicting(masks: Tensor, prompt_length: int = 1) -> Queries:
    """The tokens of masks (B, n), 1 = a token, that predict a next one, from the last of a prompt on."""
    following = masks[:, 1:].bool()
    wanted = torch.cat([following, torch.zeros_like(following[:, :1])], dim=1)
    wanted[:, : prompt_length - 1] = False
    return Queries.of(wanted)
