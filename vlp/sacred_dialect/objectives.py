"""What METER's and ViLT's objectives do after the fusion: from states or logits to losses.

Every function returns its loss under a key that ends in ``_loss`` and what the metrics need beside it. Losses are
computed in float32.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vlp.data.trim import trim_padding
from vlp.losses.cross_entropy import mean_cross_entropy
from vlp.losses.soft_answers import soft_answer_loss, soft_targets


def draw_itm_labels(batch: dict[str, Any]) -> Tensor:
    """B//2 ones ("keeps its image") and B - B//2 zeros, randomly permuted, (B,) int64."""
    size = batch["text_ids"].shape[0]
    labels = (torch.arange(size) < size // 2).long()
    return labels[torch.randperm(size)].to(batch["text_ids"].device)


def with_matching(batch: dict[str, Any], itm_labels: Tensor | None) -> dict[str, Any]:
    """The batch with ``itm_labels`` (B,), ``itm_negatives`` (N,) and the false images (N, 3, H, W) of these rows alone.

    A loader's batch is so already. That of samples without labels holds all B false images: labels given, or drawn
    here, choose among them.

    Raises:
        ValueError: labels given other than those of the batch, which lacks the false images that they need.
    """
    if "itm_negatives" in batch:
        if itm_labels is not None and not torch.equal(itm_labels, batch["itm_labels"]):
            given, own = itm_labels.tolist(), batch["itm_labels"].tolist()
            raise ValueError(
                f"itm_labels={given}, but the batch was made for {own} and holds their false images alone: leave out "
                "itm_labels, or collate samples without labels"
            )
        return batch
    labels = draw_itm_labels(batch) if itm_labels is None else itm_labels
    negatives = (labels == 0).nonzero().squeeze(1)
    false = [view[negatives] for view in batch["false_image_0"]]
    used = {**batch, "itm_labels": labels, "itm_negatives": negatives, "false_image_0": false}
    if "false_image_0" in batch.get("sizes", {}):
        used["sizes"] = {**batch["sizes"], "false_image_0": batch["sizes"]["false_image_0"][negatives]}
    return used


def mlm_outputs(head: nn.Module, states: Tensor, labels: Tensor) -> dict[str, Any]:
    """Mean cross-entropy of the K masked tokens, 0 if K = 0: states (K, d) at them, labels (K,) their ids."""
    logits = head(states)
    return {"mlm_loss": mean_cross_entropy(logits, labels), "mlm_logits": logits, "mlm_labels": labels}


def classified(task: str, logits: Tensor, labels: Tensor | Sequence[int]) -> dict[str, Any]:
    """Mean cross-entropy of logits (B, C) against labels (B,)."""
    targets = torch.as_tensor(labels, device=logits.device).long()
    return {
        f"{task}_loss": F.cross_entropy(logits.float(), targets),
        f"{task}_logits": logits,
        f"{task}_labels": targets,
    }


def vqa_outputs(logits: Tensor, batch: dict[str, Any], training: bool) -> dict[str, Any]:
    """Mean binary cross-entropy of logits (B, C) against the soft scores, times the number of answers C.

    Questions of the test split have no answers: then the logits and nothing else is returned.
    """
    if not (training or any(batch["vqa_labels"])):
        return {"vqa_logits": logits}
    targets = soft_targets(batch["vqa_labels"], batch["vqa_scores"], logits)
    return {"vqa_loss": soft_answer_loss(logits, targets), "vqa_logits": logits, "vqa_labels": targets}


def caption_candidates(batch: dict[str, Any], false_texts: int) -> tuple[Tensor, Tensor]:
    """ids and mask (B (1 + F), n) of each image's true caption, which comes first, and its F false ones."""
    keys = ["text", *(f"false_text_{i}" for i in range(false_texts))]
    ids = torch.stack([batch[f"{key}_ids"] for key in keys], dim=1).flatten(0, 1)
    mask = torch.stack([batch[f"{key}_masks"] for key in keys], dim=1).flatten(0, 1)
    mask, ids = trim_padding(mask, ids)
    return ids, mask


def irtr_outputs(scores: Tensor, false_texts: int) -> dict[str, Any]:
    """Cross-entropy of the true caption (index 0) among the candidates; scores (B (1 + F), 1)."""
    scores = scores.view(-1, 1 + false_texts)
    return classified("irtr", scores, torch.zeros(len(scores), dtype=torch.long))
