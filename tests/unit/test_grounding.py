"""Grounding: maps against an explicit formula, boxes and IoU against counting pixels, accuracy by split."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from vlp.data.errors import DataError
from vlp.evaluation.grounding import (
    Box,
    GroundingAccuracy,
    Referent,
    best_box,
    class_token_map,
    iou,
    text_token_maps,
)

GRID = 3


def attention_and_values(rows: int, keys: int) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    attention = torch.rand(2, 4, rows, keys, generator=generator, requires_grad=True)
    return attention, torch.randn(2, 4, rows, keys, generator=generator)


def test_maps_are_attention_times_positive_gradient() -> None:
    """The score's gradient is known here: it is the second factor."""
    attention, gradient = attention_and_values(5, 1 + GRID**2)
    mask = torch.tensor([[1, 1, 1, 1, 1], [1, 1, 1, 0, 0]])
    got = text_token_maps(attention, (attention * gradient).sum(), mask, GRID)
    for row in range(2):
        for token in range(5):
            for patch in range(GRID**2):
                pairs = zip(
                    attention.detach()[row, :, token, 1 + patch], gradient[row, :, token, 1 + patch], strict=True
                )
                heads = [float(a) * max(float(g), 0) for a, g in pairs]
                expected = sum(heads) / 4 * int(mask[row, token])
                assert float(got[row, token, patch // GRID, patch % GRID]) == pytest.approx(expected, rel=1e-5)


def test_the_map_of_an_image_alone_is_its_class_tokens_row() -> None:
    attention, gradient = attention_and_values(1 + GRID**2, 1 + GRID**2)
    got = class_token_map(attention, (attention * gradient).sum(), GRID)
    expected = (attention * gradient.clamp(min=0)).mean(dim=1)[:, 0, 1:].reshape(2, GRID, GRID)
    assert torch.allclose(got, expected)


boxes = st.tuples(*[st.integers(0, 9)] * 2, *[st.integers(1, 9)] * 2)


@settings(max_examples=200, deadline=None)
@given(boxes, boxes)
def test_iou_counts_pixels(a: Box, b: Box) -> None:
    def pixels(box: Box) -> set[tuple[int, int]]:
        x, y, w, h = (int(v) for v in box)
        return {(i, j) for i in range(x, x + w) for j in range(y, y + h)}

    shared = pixels(a) & pixels(b)
    if min(len({i for i, _ in shared}), len({j for _, j in shared})) == 1:  # officially no intersection
        shared = set()
    assert iou(a, b) == pytest.approx(len(shared) / (len(pixels(a)) + len(pixels(b)) - len(shared)))


def test_the_best_box_is_the_one_of_a_brute_force() -> None:
    generator = torch.Generator().manual_seed(1)
    for _ in range(20):
        heat = torch.rand(GRID, GRID, generator=generator) - 0.4
        corners = torch.rand(6, 4, generator=generator) * torch.tensor([20.0, 15.0, 20.0, 15.0])
        proposals: list[Box] = [tuple(box) for box in (corners + torch.tensor([0, 0, 2.0, 2.0])).tolist()]
        enlarged = F.interpolate(heat[None, None], size=(30, 40), mode="bicubic")[0, 0].tolist()
        scores = []
        for x, y, w, h in proposals:
            rows, columns = range(int(y), min(int(y + h), 30)), range(int(x), min(int(x + w), 40))
            scores.append(sum(enlarged[row][column] for row in rows for column in columns) / (w * h) ** 0.5)
        best = max(scores)
        assert best_box(heat, proposals, 40, 30) == (proposals[scores.index(best)] if best > 0 else None)


def test_boxes_beyond_the_image_and_without_area() -> None:
    heat = torch.ones(GRID, GRID)
    outside, flat, inside = (-8.0, -8.0, 4.0, 4.0), (2.0, 2.0, 0.0, 5.0), (5.0, 5.0, 90.0, 90.0)
    assert best_box(heat, [outside, flat, inside], 20, 20) == inside
    assert best_box(heat, [outside, flat], 20, 20) is None
    assert best_box(heat, [], 20, 20) is None


def corner(row: int, column: int) -> Tensor:
    return F.one_hot(torch.tensor(row * 2 + column), 4).view(2, 2).float()


QUADRANTS: list[Box] = [(x, y, 10.0, 10.0) for y in (0.0, 10.0) for x in (0.0, 10.0)]
REFERENTS = {
    split * 10 + box: Referent(name, QUADRANTS[box], QUADRANTS, 20, 20)
    for split, name in enumerate(("testB", "val", "testA"))
    for box in range(4)
}


def rows(*numbers: int) -> list[tuple[str, int]]:
    return [("refcoco+_test", number) for number in numbers]


def test_accuracy_by_split_and_a_map_without_a_positive_box_is_wrong() -> None:
    accuracy = GroundingAccuracy(REFERENTS)
    accuracy.add(rows(0, 1), [10, 11], torch.stack([corner(0, 0), corner(0, 1)]))
    accuracy.add(rows(2, 3), [12, 13], torch.stack([corner(0, 0), torch.zeros(2, 2)]))  # wrong, and none
    accuracy.add(rows(4, 5, 6), [20, 21, 3], torch.stack([corner(0, 0), -corner(0, 1), corner(1, 1)]))
    assert accuracy.results() == {"val_d": 0.5, "testA_d": 0.5, "testB_d": 1.0}
    assert list(accuracy.results()) == ["val_d", "testA_d", "testB_d"]
    accuracy.clear()
    assert accuracy.results() == {}


def test_an_expression_that_comes_twice_counts_once() -> None:
    accuracy = GroundingAccuracy(REFERENTS)
    for _ in range(3):
        accuracy.add(rows(0), [10], corner(0, 0)[None])
    accuracy.add(rows(1), [11], corner(0, 0)[None])
    accuracy.add([("refcoco+_val", 0)], [10], corner(1, 0)[None])  # another expression
    assert accuracy.results() == {"val_d": pytest.approx(1 / 3)}


def test_an_unknown_reference_is_named() -> None:
    with pytest.raises(DataError, match=r"refcoco\+_test, row 7: ref_id 99 is not in refs"):
        GroundingAccuracy(REFERENTS).add(rows(7), [99], corner(0, 0)[None])
