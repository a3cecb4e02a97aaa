"""Drawing the masked positions M without replacement (docs/method.md §2, steps 2-3; Eq. 3)."""

from __future__ import annotations

from fractions import Fraction

import torch
from torch import Tensor


def maskable_positions(ids: Tensor, mask: Tensor, special_ids: Tensor) -> Tensor:
    """The positions that count in len(sentence): real tokens that are not special.

    Args:
        ids: (B, n) token ids.
        mask: (B, n), 1 = a real token, 0 = padding.
        special_ids: (S,) ids of the special tokens.

    Returns:
        (B, n) bool.
    """
    return mask.bool() & ~torch.isin(ids, special_ids.to(ids.device))


def num_masked(maskable: Tensor, ratio: float) -> Tensor:
    """m = ceil(ratio * len(sentence)) per sentence, exact: 0.35 of 20 tokens is 7, not the 8 of float rounding.

    Args:
        maskable: (B, n) bool.
        ratio: in [0, 1], meant as the decimal number that it prints as.

    Returns:
        (B,) int64.
    """
    exact = Fraction(repr(float(ratio))).limit_denominator(10**9)
    lengths = maskable.sum(dim=1)
    return (lengths * exact.numerator + exact.denominator - 1) // exact.denominator


def draw_masked(log_alpha: Tensor, m: Tensor, rng: torch.Generator) -> Tensor:
    """Draw m positions per sentence without replacement from Categorical(alpha): Gumbel-top-m on log alpha.

    The m largest of log alpha_i + Gumbel noise are distributed as m sequential draws without replacement. All in log
    space: an alpha that underflows to 0 can still be drawn, one that is exactly 0 (log alpha = -inf) never is, and
    where fewer than m positions have alpha > 0, those are M.

    Args:
        log_alpha: (B, n) log-probabilities, -inf = never; NaN is never drawn either.
        m: (B,) how many.
        rng: on the device of ``log_alpha``.

    Returns:
        (B, n) bool, True on M.
    """
    exponential = torch.empty_like(log_alpha, dtype=torch.float32).exponential_(generator=rng)
    gumbel = -exponential.clamp_min(torch.finfo(torch.float32).tiny).log()
    order = (log_alpha.float() + gumbel).argsort(dim=1, descending=True)
    rank = order.argsort(dim=1)
    return (rank < m[:, None]) & (log_alpha > -torch.inf)


def masked_places(masked: Tensor, count: int | None = None) -> tuple[Tensor, Tensor]:
    """M as places of the flattened sentences, row after row.

    Args:
        masked: (B, n) bool, M.
        count: |M| where the loader knows it, or more; by default the host waits for it.

    Returns:
        (K,) int64, K = ``count``, and (K,) bool, True = in M. All are, but where fewer could be drawn than counted:
        then the rest are other places.
    """
    flat = masked.flatten()
    if count is None:
        places = flat.nonzero().squeeze(1)
    else:
        places = flat.byte().argsort(descending=True, stable=True)[:count]
    return places, flat[places]


def mask_tokens(ids: Tensor, masked: Tensor, mask_id: int) -> Tensor:
    """Eq. 3: every position in M becomes the mask token. ids, masked: (B, n); returns (B, n)."""
    return ids.masked_fill(masked, mask_id)
