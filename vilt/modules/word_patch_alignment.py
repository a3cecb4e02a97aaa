"""Word-patch alignment: the optimal-transport distance between a caption and its patches.

    distance_b = trace(C_b T_b),  C = 1 - cos(word, patch),  T = the plan that IPOT finds, without gradient

All of it in float32, whatever the precision of the run.

Source: docs/official/vilt.md §5, step 4.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

BETA = 0.5
ITERATIONS = 50
NORM_EPS = 1e-5
WEIGHT = 0.1  # of the loss in the step's sum
_PADDED = 1e4  # added to the denominators of padded words and patches, so that they get next to nothing


def alignment_loss(words: Tensor, word_mask: Tensor, patches: Tensor, patch_mask: Tensor, matched: Tensor) -> Tensor:
    """Mean distance of matched pairs less that of mismatched ones, times its weight; may be negative.

    Args:
        words: (B, n, d) text states; word_mask: (B, n), True = an aligned word, see :func:`aligned_words`.
        patches: (B, m, d) image states; patch_mask: (B, m), True = an aligned patch.
        matched: (B,) 1 = the caption is the image's, 0 = it is not.
    """
    with torch.autocast(words.device.type, enabled=False):
        cost = cost_matrix(words.float(), word_mask, patches.float(), patch_mask)
        distance = transport_distance(cost, transport_plan(cost, word_mask, patch_mask))
        signs = 2 * matched.to(distance.dtype) - 1
        return WEIGHT * (signs * distance).sum() / len(distance)


def aligned_words(text_mask: Tensor) -> Tensor:
    """text_mask (B, n), 1 = valid, padding right -> True at the words: neither [CLS] nor the last token, [SEP]."""
    place = torch.arange(text_mask.shape[1], device=text_mask.device)
    last = text_mask.sum(dim=1, keepdim=True) - 1
    return (place > 0) & (place < last)


def aligned_patches(image_mask: Tensor) -> Tensor:
    """image_mask (B, 1 + P), True = valid -> True at the patches alone, not at the class token."""
    return image_mask & (torch.arange(image_mask.shape[1], device=image_mask.device) > 0)


def cost_matrix(words: Tensor, word_mask: Tensor, patches: Tensor, patch_mask: Tensor) -> Tensor:
    """C (B, n, m) = 1 - cos(word, patch), 0 where either is padding."""
    words, patches = (F.normalize(states, dim=-1, eps=NORM_EPS) for states in (words, patches))
    return (1 - words @ patches.transpose(1, 2)).masked_fill(~_pairs(word_mask, patch_mask), 0)


@torch.no_grad()
def transport_plan(
    cost: Tensor, word_mask: Tensor, patch_mask: Tensor, beta: float = BETA, iterations: int = ITERATIONS
) -> Tensor:
    """IPOT's plan T (B, m, n) between uniform words and uniform patches, 0 at padding, for cost (B, n, m).

    T sums to 1 in every row that has words and patches, and is 0 in one that has not.
    """
    pairs = _pairs(word_mask, patch_mask).transpose(1, 2)
    x_len, y_len = word_mask.sum(dim=1, keepdim=True), patch_mask.sum(dim=1, keepdim=True)
    x_pad, y_pad = _PADDED * ~word_mask, _PADDED * ~patch_mask
    sigma = word_mask.to(cost.dtype) / x_len.clamp(min=1)  # (B, n)
    a = torch.exp(-cost.transpose(1, 2) / beta).masked_fill(~pairs, 0)
    plan = pairs.to(cost.dtype)
    for _ in range(iterations):
        q = a * plan
        delta = 1 / (y_len * (q @ sigma[..., None]).squeeze(-1) + y_pad)  # (B, m)
        sigma = 1 / (x_len * (delta[:, None] @ q).squeeze(1) + x_pad)
        plan = delta[..., None] * q * sigma[:, None]
    return plan.masked_fill(~pairs, 0)  # a caption without words has made infinities


def transport_distance(cost: Tensor, plan: Tensor) -> Tensor:
    """trace(C T) (B,): the cost of carrying the words to the patches."""
    return (cost * plan.transpose(1, 2)).sum(dim=(1, 2))


def _pairs(word_mask: Tensor, patch_mask: Tensor) -> Tensor:
    """(B, n, m), True where both are aligned."""
    return word_mask[:, :, None] & patch_mask[:, None, :]
