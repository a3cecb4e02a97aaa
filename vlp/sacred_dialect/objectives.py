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

from vlp.losses.cross_entropy import mean_cross_entropy
from vlp.losses.soft_answers import soft_answer_loss, soft_targets


def mlm_outputs(head: nn.Module, states: Tensor, labels: Tensor) -> dict[str, Any]:
    """Mean cross-entropy of the K masked tokens, 0 if K = 0: states (K, d) at them, labels (K,) their ids."""
    logits = head(states)
    return {"mlm_loss": mean_cross_entropy(logits, labels), "mlm_logits": logits, "mlm_labels": labels}


def classified(task: str, logits: Tensor, labels: Tensor | Sequence[int]) -> dict[str, Any]:
    """Mean cross-entropy of logits (B, C) against labels (B,)."""
    targets = torch.as_tensor(labels).to(logits.device, non_blocking=True).long()
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


def irtr_outputs(scores: Tensor, false_texts: int) -> dict[str, Any]:
    """Cross-entropy of the true caption (index 0) among the candidates; scores (B (1 + F), 1)."""
    scores = scores.view(-1, 1 + false_texts)
    return classified("irtr", scores, scores.new_zeros(len(scores), dtype=torch.long))
