"""Contrast of images and texts with a momentum model's soft targets (docs/official/albef.md §5)."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional as F


def soft_targets(similarities: Tensor, own: Tensor, alpha: float) -> Tensor:
    """alpha · softmax(similarities) + (1 - alpha) · own: the teacher's similarities and the true ones, (B, C) each."""
    return alpha * F.softmax(similarities, dim=1) + (1 - alpha) * own


def contrastive_loss(image_to_text: Tensor, text_to_image: Tensor, i2t_targets: Tensor, t2i_targets: Tensor) -> Tensor:
    """Mean over both directions of the cross-entropy of similarities (B, C) against targets (B, C)."""
    losses = (
        -(targets * F.log_softmax(similarities, dim=1)).sum(dim=1).mean()
        for similarities, targets in ((image_to_text, i2t_targets), (text_to_image, t2i_targets))
    )
    return sum(losses) / 2  # type: ignore[return-value]
