"""VQAv2's loss: several answers of a question may be right, each to a degree (docs/official/meter.md §7.2)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor


def soft_targets(labels: Sequence[Sequence[int]], scores: Sequence[Sequence[float]], like: Tensor) -> Tensor:
    """Targets (B, C) float32 of ``like`` (B, C): of each question its answers' scores, 0 elsewhere."""
    targets = torch.zeros(like.shape, dtype=torch.float32)
    for row, (ids, values) in enumerate(zip(labels, scores, strict=True)):
        targets[row, ids] = torch.tensor(values)
    return targets.to(like.device, non_blocking=True)


def soft_answer_loss(logits: Tensor, targets: Tensor) -> Tensor:
    """Mean binary cross-entropy of logits (B, C) against targets (B, C), times the number of answers C."""
    return F.binary_cross_entropy_with_logits(logits.float(), targets) * targets.shape[1]
