"""Cross-entropy against true labels and, in part, a momentum model's predictions (docs/official/albef.md §5)."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional as F

from vlp.losses.cross_entropy import mean_cross_entropy


def distilled_cross_entropy(logits: Tensor, targets: Tensor, teacher_logits: Tensor, alpha: float) -> Tensor:
    """(1 - alpha) CE + alpha KD, each a mean over K predictions; 0 with a gradient graph if K = 0.

    Args:
        logits, teacher_logits: (K, C), the student's and the momentum model's.
        targets: (K,) labels.
    """
    log_p = F.log_softmax(logits.float(), dim=-1)
    kd = -(F.softmax(teacher_logits.float(), dim=-1) * log_p).sum() / max(len(targets), 1)
    return (1 - alpha) * mean_cross_entropy(logits, targets) + alpha * kd
