"""Cross-entropy over as many targets as a batch happens to have."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor


def mean_cross_entropy(logits: Tensor, targets: Tensor) -> Tensor:
    """Mean over K targets of logits (K, C) in float32, and 0 with a gradient graph if K = 0.

    The official mean of masked language modelling is NaN in a batch without a masked token.
    """
    return F.cross_entropy(logits.float(), targets, reduction="sum") / max(len(targets), 1)
