"""Cross-entropy against true labels and, in part, a momentum model's predictions (docs/official/albef.md §5)."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional as F


def distilled_losses(logits: Tensor, targets: Tensor, teacher_logits: Tensor | None, alpha: float) -> Tensor:
    """(1 - alpha) CE + alpha KD of each of K predictions, (K,), in float32.

    Args:
        logits, teacher_logits: (K, C), the student's and the momentum model's; without the latter CE alone.
        targets: (K,) labels.
    """
    log_p = F.log_softmax(logits.float(), dim=-1)
    ce = F.nll_loss(log_p, targets, reduction="none")
    if teacher_logits is None:
        return ce
    kd = -(F.softmax(teacher_logits.float(), dim=-1) * log_p).sum(dim=-1)
    return (1 - alpha) * ce + alpha * kd


def distilled_cross_entropy(logits: Tensor, targets: Tensor, teacher_logits: Tensor | None, alpha: float) -> Tensor:
    """The mean of :func:`distilled_losses`; 0 with a gradient graph if K = 0."""
    return distilled_losses(logits, targets, teacher_logits, alpha).sum() / max(len(targets), 1)
