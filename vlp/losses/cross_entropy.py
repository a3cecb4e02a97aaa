"""Cross-entropy over as many targets as a batch happens to have."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor


def mean_cross_entropy(logits: Tensor, targets: Tensor) -> Tensor:
    """Mean over K targets of logits (K, C) in float32, and 0 with a gradient graph if K = 0.

    The official mean of masked language modelling is NaN in a batch without a masked token.
    """
    return F.cross_entropy(logits.float(), targets, reduction="sum") / max(len(targets), 1)


def smoothed_cross_entropy(logits: Tensor, targets: Tensor, smoothing: float) -> Tensor:
    """Mean over K targets (K,) of logits (K, C) in float32: the target weighs 1 - smoothing, each other smoothing / C.

    The target itself gets no such part, so that the weights sum to less than 1. With 0 it is the cross-entropy.
    Source: docs/official/xvlm.md §7.5.
    """
    log_p = logits.float().log_softmax(dim=-1)
    true = log_p.gather(1, targets[:, None])[:, 0]
    share = smoothing / logits.shape[1]
    losses = -(1 - smoothing) * true - share * (log_p.sum(dim=1) - true)
    return losses.sum() / max(len(targets), 1)
