"""Saliency of text tokens for the image: Eq. 8 (docs/method.md §2, step 1)."""

from __future__ import annotations

import torch
from torch import Tensor


def saliency_scores(q: Tensor, k: Tensor) -> Tensor:
    """The exponent of Eq. 8: the mean over heads of q_k · K_k, with no 1/sqrt(d_h) and before any softmax.

    In float32 whatever the autocast, since the softmax that follows has no scale to tame large scores.

    Args:
        q: (B, h, d_h), one query per head, that of the image's [CLS] token.
        k: (B, h, n, d_h), the keys of the n text tokens.

    Returns:
        (B, n) scores.
    """
    with torch.autocast(q.device.type, enabled=False):
        return torch.einsum("bhd,bhnd->bn", q.float(), k.float()) / q.shape[1]


def log_saliency(scores: Tensor, maskable: Tensor, temperature: float = 1.0) -> Tensor:
    """log alpha of Eq. 8: log-softmax over the maskable tokens, -inf elsewhere (all -inf where there are none).

    A sentence with a maskable token whose score is NaN or infinite is NaN at all its maskable tokens.

    Args:
        scores: (B, n), as :func:`saliency_scores` gives them.
        maskable: (B, n) bool; the other positions get probability 0 before the softmax.
        temperature: divides the scores; 1 as printed, sqrt(d_h) for the attention's own scale.

    Returns:
        (B, n) float32.
    """
    logits = scores.float() / temperature
    finite = (logits.isfinite() | ~maskable).all(dim=1, keepdim=True)
    logits = logits.masked_fill(~maskable, -torch.inf).masked_fill(~finite, torch.nan)
    # A row with nothing to mask is NaN here, and wholly -inf after the fill.
    return logits.log_softmax(dim=1).masked_fill(~maskable, -torch.inf)


def uniform_log_alpha(maskable: Tensor) -> Tensor:
    """log alpha of the variants that mask uniformly: every maskable token alike. (B, n) bool -> (B, n) float32."""
    return log_saliency(torch.zeros_like(maskable, dtype=torch.float32), maskable)


def saliency_entropy(log_alpha: Tensor) -> Tensor:
    """Entropy of alpha in nats, 0 for a sentence with nothing to mask. (B, n) -> (B,)."""
    alpha = log_alpha.exp()
    return -(alpha * log_alpha.masked_fill(alpha == 0, 0.0)).sum(dim=1)
