"""Losses of boxes against brute force: areas counted on a grid, rows one by one."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from torchvision.ops import generalized_box_iou

from vlp.losses.boxes import box_losses, corners, paired_giou

GRID = 12
places = st.integers(0, GRID - 1)
sizes = st.integers(1, GRID)


def cells(box: Tensor) -> set[tuple[int, int]]:
    """The cells of a grid of unit squares that a box of whole corners covers."""
    x0, y0, x1, y1 = (int(each) for each in box)
    return {(x, y) for x in range(x0, x1) for y in range(y0, y1)}


@given(st.lists(st.tuples(places, places, sizes, sizes), min_size=2, max_size=2))
def test_giou_counts_covered_cells(drawn: list[tuple[int, int, int, int]]) -> None:
    a, b = (torch.tensor([x, y, x + w, y + h]).double() for x, y, w, h in drawn)
    ours, theirs = cells(a), cells(b)
    around = cells(torch.cat([torch.min(a, b)[:2], torch.max(a, b)[2:]]))
    union = len(ours | theirs)
    expected = len(ours & theirs) / union - (len(around) - union) / len(around)
    assert paired_giou(a[None], b[None]).item() == pytest.approx(expected, abs=1e-12)


def drawn_boxes(count: int, seed: int) -> Tensor:
    rng = torch.Generator().manual_seed(seed)
    return 0.2 + 0.4 * torch.rand(count, 4, generator=rng)


def test_giou_is_torchvisions() -> None:
    a, b = corners(drawn_boxes(9, 0)), corners(drawn_boxes(9, 1))
    torch.testing.assert_close(paired_giou(a, b), generalized_box_iou(a, b).diag())


def test_means_are_over_the_rows_that_count() -> None:
    predicted, target = drawn_boxes(5, 0), drawn_boxes(5, 1)
    counts = torch.tensor([1, 0, 1, 1, 0])
    distances = [sum(abs(x - y) for x, y in zip(p, t, strict=True)) for p, t in zip(predicted, target, strict=True)]
    gious = [
        1 - generalized_box_iou(corners(p[None]), corners(t[None])).item()
        for p, t in zip(predicted, target, strict=True)
    ]
    rows = [i for i in range(5) if counts[i]]
    distance, giou = box_losses(predicted, target, counts)
    torch.testing.assert_close(distance, torch.stack([distances[i] for i in rows]).sum() / 3)
    assert giou.item() == pytest.approx(sum(gious[i] for i in rows) / 3, abs=1e-5)
    distance, giou = box_losses(predicted, target)
    torch.testing.assert_close(distance, torch.stack(distances).sum() / 5)
    assert giou.item() == pytest.approx(sum(gious) / 5, abs=1e-5)


def test_without_a_row_that_counts_there_is_nothing_to_learn() -> None:
    predicted = drawn_boxes(3, 0).requires_grad_()
    losses = box_losses(predicted, drawn_boxes(3, 1), torch.zeros(3))
    (losses[0] + losses[1]).backward()
    assert [loss.item() for loss in losses] == [0, 0]
    assert predicted.grad is not None and not predicted.grad.any()


@pytest.mark.parametrize("place", [2, 3])
def test_a_box_inside_out_takes_the_giou_of_its_batch(place: int) -> None:
    predicted, target = drawn_boxes(3, 0).requires_grad_(), drawn_boxes(3, 1)
    target[1, place] *= -1
    distance, giou = box_losses(predicted, target)
    giou.backward()
    assert giou.item() == 0 and distance.item() > 0
    assert predicted.grad is not None and not predicted.grad.any()
