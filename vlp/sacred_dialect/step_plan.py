"""What a batch's lengths and labels decide about its step, worked out where the batch is made.

A GPU that is asked how many tokens there are, or where, makes its host wait for all that is queued before. A loader
knows it at no cost: its plan travels in the batch under ``plan``.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from vlp.data.masking import IGNORED
from vlp.data.trim import trim_padding
from vlp.nn.packed_text import TextPlan
from vlp.nn.padding import Queries

Batch = dict[str, Any]


def text_plan(batch: Batch) -> Batch:
    """``plan``: of the sentences cut to the longest (``text``), and MLM's positions (``mlm``).

    With false texts also of retrieval's ``candidates``, and their ids (``candidate_ids``).
    """
    (mask,) = trim_padding(batch["text_masks"])
    plan: Batch = {"text": TextPlan.of(mask)}
    if "text_labels_mlm" in batch:
        plan["mlm"] = Queries.of(batch["text_labels_mlm"][:, : mask.shape[1]] != IGNORED)
    false_texts = sum(key.startswith("false_text_") and key.endswith("_masks") for key in batch)
    if false_texts:
        ids, mask = (candidates(batch, kind, false_texts) for kind in ("ids", "masks"))
        mask, plan["candidate_ids"] = trim_padding(mask, ids)
        plan["candidates"] = TextPlan.of(mask)
    return {"plan": plan}


def candidates(batch: Batch, kind: str, false_texts: int) -> Tensor:
    """``kind`` (ids or masks) of each image's true caption, which comes first, and its F false ones: (B (1 + F), n)."""
    keys = ["text", *(f"false_text_{i}" for i in range(false_texts))]
    return torch.stack([batch[f"{key}_{kind}"] for key in keys], dim=1).flatten(0, 1)


def with_labels(batch: Batch, itm_labels: Tensor) -> Batch:
    """The batch with ITM's labels (B,), 1 = keeps its image, and of its false images those that ITM reads.

    Raises:
        ValueError: the batch holds the false images of other labels alone.
    """
    known = batch.get("itm_labels")
    if known is not None:
        if not torch.equal(known, itm_labels):
            raise ValueError(
                f"itm_labels={itm_labels.tolist()}, but the batch was made for {known.tolist()}: it holds the false "
                "images of its own negatives alone"
            )
        return batch
    negatives = (itm_labels == 0).nonzero().squeeze(1)
    used: Batch = {"itm_labels": itm_labels, "itm_negatives": negatives}
    used["false_image_0"] = [view[negatives] for view in batch["false_image_0"]]
    if "false_image_0" in batch.get("sizes", {}):
        used["sizes"] = {**batch["sizes"], "false_image_0": batch["sizes"]["false_image_0"][negatives]}
    return {**{key: value for key, value in batch.items() if key != "plan"}, **used}


def draw_itm_labels(size: int) -> Tensor:
    """B//2 ones ("keeps its image") and B - B//2 zeros, randomly permuted, (B,): for a batch that has no labels."""
    labels = (torch.arange(size) < size // 2).long()
    return labels[torch.randperm(size)]
