"""Grounding: Grad-CAM maps of an image-text score, the detector's boxes that they choose, and how boxes are judged.

Source: docs/official/albef.md §7, docs/official/xvlm.md §7.4.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from vlp.data.errors import DataError
from vlp.distributed import gathered

Box = tuple[float, float, float, float]  # x, y of the upper left corner, width, height; pixels of the whole image

Expression = tuple[str, int]  # the data set's name, the row in it

AREA_EXPONENT = 0.5  # of a box's area, by which its summed map is divided
CORRECT_IOU = 0.5  # from which on a box counts as the object's
VLUE = "vlue"  # the one split of a test set that brings its boxes along


class Referent(NamedTuple):
    """What a referring expression means, and what there is to choose from."""

    split: str  # "val", "testA" or "testB", or VLUE
    box: Box  # of the object
    proposals: Sequence[Box]  # of the image, in the detector's order
    width: int  # of the image, pixels
    height: int


# Maps ----------------------------------------------------------------------------------------------------


def positive_gradient(attention: Tensor, score: Tensor) -> Tensor:
    """attention (B, h, n, m) x max(its gradient, 0), the mean over heads -> (B, n, m).

    ``score`` () is what is explained: a sum over the batch of numbers that each depend on one row.
    """
    (gradient,) = torch.autograd.grad(score, attention)
    return (attention.detach() * gradient.clamp(min=0)).mean(dim=1)


def text_token_maps(attention: Tensor, score: Tensor, text_mask: Tensor, grid: int) -> Tensor:
    """Where the score of each text token comes from, (B, n, grid, grid); zeros at padding.

    Args:
        attention: (B, h, n, 1 + grid²), text tokens over an image's class token and patches.
        text_mask: (B, n), 1 = a valid token.
    """
    maps = positive_gradient(attention, score)[:, :, 1:] * text_mask[:, :, None]
    return maps.unflatten(2, (grid, grid))


def class_token_map(attention: Tensor, score: Tensor, grid: int) -> Tensor:
    """The row of an image's class token in self-attention (B, h, 1 + grid², 1 + grid²) -> (B, grid, grid)."""
    return positive_gradient(attention, score)[:, 0, 1:].unflatten(1, (grid, grid))


# Boxes ---------------------------------------------------------------------------------------------------


def best_box(grounding_map: Tensor, proposals: Sequence[Box], width: int, height: int) -> Box | None:
    """The proposal with the highest sum of the map over the root of its area; None if no sum is positive.

    The map (g, g) is enlarged to the image, bicubically. Among equal scores the first proposal wins. The official
    code answers with the box of the item before where no sum is positive.
    """
    enlarged = F.interpolate(grounding_map[None, None].float(), size=(height, width), mode="bicubic")[0, 0].cpu()
    best, highest = None, 0.0
    for box in proposals:
        x, y, w, h = box
        if w <= 0 or h <= 0:
            continue
        inside = enlarged[max(int(y), 0) : max(int(y + h), 0), max(int(x), 0) : max(int(x + w), 0)]
        score = float(inside.sum()) / (w * h) ** AREA_EXPONENT
        if score > highest:
            best, highest = box, score
    return best


def iou(a: Box, b: Box) -> float:
    """Intersection over union as the official code counts: the last pixels of the intersection are in it, but one of a
    single column or row is none."""
    width = min(a[0] + a[2] - 1, b[0] + b[2] - 1) - max(a[0], b[0]) + 1
    height = min(a[1] + a[3] - 1, b[1] + b[3] - 1) - max(a[1], b[1]) + 1
    if width <= 1 or height <= 1:
        return 0.0
    intersection = width * height
    return intersection / (a[2] * a[3] + b[2] * b[3] - intersection)


def pixel_box(box: Sequence[float], width: int, height: int) -> Box:
    """Centre, width and height, relative to the image -> a box in its pixels."""
    x, y, w, h = box
    return (x - w / 2) * width, (y - h / 2) * height, w * width, h * height


class GroundingAccuracy:
    """Share of expressions whose box is the object's (IoU >= 0.5), by the split of the object.

    The box is predicted, or the best one of a map, where an expression without a positive one counts as wrong. Every
    expression counts once, also where the sampler's padding gave it to two ranks.
    """

    def __init__(self, referents: Mapping[int, Referent]) -> None:
        """``referents``: by the id of the reference."""
        self.referents = referents
        self._correct: dict[Expression, tuple[str, bool]] = {}  # its split, and whether it is

    def clear(self) -> None:
        """Forget all expressions."""
        self._correct.clear()

    def add(self, expressions: Sequence[Expression], ref_ids: Sequence[int], maps: Tensor) -> None:
        """Judge the maps (B, g, g) of B expressions.

        Raises:
            DataError: a reference is not known.
        """
        for expression, ref_id, grounding_map in zip(expressions, ref_ids, maps, strict=True):
            referent = self._referent(expression, ref_id)
            box = best_box(grounding_map, referent.proposals, referent.width, referent.height)
            self._judge(expression, referent, box)

    def add_boxes(self, expressions: Sequence[Expression], ref_ids: Sequence[int], boxes: Tensor) -> None:
        """Judge the predicted boxes (B, 4) of B expressions: centre, width and height, relative to the image.

        Raises:
            DataError: a reference is not known.
        """
        for expression, ref_id, box in zip(expressions, ref_ids, boxes.tolist(), strict=True):
            referent = self._referent(expression, ref_id)
            self._judge(expression, referent, pixel_box(box, referent.width, referent.height))

    def _referent(self, expression: Expression, ref_id: int) -> Referent:
        if ref_id not in self.referents:
            name, row = expression
            raise DataError(f"{name}, row {row}: ref_id {ref_id} is not in refs(unc).p; are both of one data set?")
        return self.referents[ref_id]

    def _judge(self, expression: Expression, referent: Referent, box: Box | None) -> None:
        self._correct[expression] = (referent.split, box is not None and iou(referent.box, box) >= CORRECT_IOU)

    def results(self) -> dict[str, float]:
        """``val_d``, ``testA_d``, ``testB_d`` over all ranks, each if it has expressions; every rank calls it.

        VLUE's is ``score``.
        """
        verdicts = {key: verdict for part in gathered(self._correct) for key, verdict in part.items()}
        total = Counter(split for split, _ in verdicts.values())
        right = Counter(split for split, correct in verdicts.values() if correct)
        return {_metric(split): right[split] / total[split] for split in sorted(total, key=_official_order)}


def _official_order(split: str) -> tuple[int, str]:
    order = ("val", "testA", "testB")
    return (order.index(split) if split in order else len(order), split)


def _metric(split: str) -> str:
    return "score" if split == VLUE else f"{split}_d"
