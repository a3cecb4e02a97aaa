"""Losses of predicted boxes (cx, cy, w, h), relative to the image (docs/official/xvlm.md §5.4)."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F


def corners(boxes: Tensor) -> Tensor:
    """(…, 4) of centre and size -> (…, 4) of the upper left and the lower right corner."""
    centre, size = boxes[..., :2], boxes[..., 2:]
    return torch.cat([centre - size / 2, centre + size / 2], dim=-1)


def paired_giou(boxes: Tensor, others: Tensor) -> Tensor:
    """Generalised IoU of each box with the other of its row: corners (B, 4) each -> (B,) in [-1, 1].

    IoU less the share of the smallest box around both that neither covers.
    """

    def area(left_upper: Tensor, right_lower: Tensor) -> Tensor:
        return (right_lower - left_upper).clamp(min=0).prod(dim=-1)

    (a, b), (c, d) = boxes.split(2, dim=-1), others.split(2, dim=-1)
    common, around = area(torch.max(a, c), torch.min(b, d)), area(torch.min(a, c), torch.max(b, d))
    union = area(a, b) + area(c, d) - common
    return common / union - (around - union) / around


def box_losses(predicted: Tensor, target: Tensor, counts: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """The sum of absolute differences, and 1 - GIoU: means over the rows that count, 0 without any.

    If a box is inside out, the GIoU loss of the whole batch is 0, as officially.

    Args:
        predicted, target: (B, 4) as (cx, cy, w, h).
        counts: (B,), 1 = a row that counts; None = all do.
    """
    predicted, target = predicted.float(), target.float()
    weights = torch.ones_like(target[:, 0]) if counts is None else counts.to(target.dtype)
    rows = weights.sum().clamp(min=1)
    distance = F.l1_loss(predicted, target, reduction="none").sum(dim=-1)
    boxes, others = corners(predicted), corners(target)
    inside_out = torch.stack([(each[:, 2:] < each[:, :2]).any() for each in (boxes, others)]).any()
    giou = (1 - paired_giou(boxes, others)).masked_fill(inside_out, 0)
    return (distance * weights).sum() / rows, (giou * weights).sum() / rows
