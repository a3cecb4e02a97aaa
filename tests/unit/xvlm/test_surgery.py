"""What each script makes of a checkpoint's tensors, against the official tables of every key."""

from __future__ import annotations

import re
from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor

from tests.unit.xvlm.tables import key_table
from vlp.nn.relative_bias import interpolate_bias_table, source_offsets
from xvlm.models.checkpoints import SURGERY

SIZES = {"": (6, 12), "tiny_": (2, 4)}  # the first fusion layer, and the number of layers
TABLES = {"bbox": "grounding_bbox", "bbox_pretrain": "grounding_bbox_pretrain"}


def numbered(table: str) -> dict[str, Tensor]:
    """A state dict of the table's official names whose values say which name they had."""
    return {name: torch.tensor(i) for i, name in enumerate(key_table(table))}


def wrapped(name: str) -> str:
    return re.sub(r"^text_encoder\.", "text_encoder.bert.", name)


def with_two_images(name: str, first: int) -> str:
    """Layers 6, 7, 8, 9, ... were 6, 6, 7, 7, ...."""
    layer = re.search(r"layer\.(\d+)\.", name)
    if layer and int(layer[1]) >= first:
        name = name.replace(layer[0], f"layer.{first + (int(layer[1]) - first) // 2}.")
    return wrapped(name)


def of_decoder(name: str, first: int) -> str:
    """An answer decoder's layer 0 was the first fusion layer; its keys and values of the question are new."""
    if not name.startswith("text_decoder."):
        return wrapped(name)
    if re.search(r"crossattention\.self\.(key|value)", name):
        return "-"
    name = name.replace("text_decoder.", "text_encoder.")
    return re.sub(r"layer\.(\d+)\.", lambda found: f"layer.{int(found[1]) + first}.", name)


OFFICIAL: dict[str, Callable[[str, int], str]] = {
    "retrieval": lambda name, _: wrapped(name),
    "bbox": lambda name, _: wrapped(name),
    "bbox_pretrain": lambda name, _: wrapped(name),
    "nlvr": with_two_images,
    "nlvr_pretrain": with_two_images,
    "vqa": of_decoder,
    "captioning": lambda name, _: name.replace("text_decoder.", "text_encoder."),
    "captioning_pretrain": lambda name, _: name.replace("text_decoder.", "text_encoder."),
}
TINY = ("retrieval", "vqa", "nlvr")


@pytest.mark.parametrize(("task", "size"), [*((task, "") for task in OFFICIAL), *((task, "tiny_") for task in TINY)])
def test_every_key_receives_the_official_one(task: str, size: str) -> None:
    source, expected = numbered(f"{size}pretrain"), numbered(f"{size}{TABLES.get(task, task)}")
    loaded, names = SURGERY[task](source, expected), list(numbered(f"{size}pretrain"))
    got = {name: names[int(loaded[name])] if name in loaded else "-" for name in expected}
    official = {name: OFFICIAL[task](name, SIZES[size][0]) for name in expected}
    assert got == {name: theirs if theirs in source else "-" for name, theirs in official.items()}
    heads = {"nlvr": "cls_head", "nlvr_pretrain": "ta_head"}
    new = {name.split(".")[0] for name, theirs in got.items() if theirs == "-"}
    assert new == {heads[task]} if task in heads else new <= {"text_decoder"}


@pytest.mark.parametrize("task", list(SURGERY))
def test_a_file_of_the_task_itself_is_taken_as_it_is(task: str) -> None:
    state = numbered(TABLES.get(task, task))
    assert SURGERY[task](state, state) == state


@pytest.mark.parametrize("task", ["nlvr", "captioning"])
def test_a_file_of_the_stage_before_is_taken_as_it_is(task: str) -> None:
    state, expected = numbered(f"{task}_pretrain"), numbered(task)
    assert SURGERY[task](state, expected) == state


# Tables of another window ------------------------------------------------------------------------------------


@pytest.mark.parametrize(("before", "after"), [(7, 12), (7, 15), (12, 15), (7, 14)])
def test_the_denser_offsets_reach_as_far_as_the_new_window(before: int, after: int) -> None:
    offsets = source_offsets(2 * before - 1, 2 * after - 1)
    steps = np.diff(offsets[before - 1 :])
    assert offsets[before - 1] == 0 and np.allclose(offsets, -offsets[::-1])
    assert steps[0] == 1 and np.allclose(steps[1:] / steps[:-1], steps[1])
    assert abs(offsets[-1] - (after - 1)) < 1e-4


def test_a_cubic_table_is_carried_exactly() -> None:
    """A cubic spline through a cubic's values is that cubic, whatever the distances between them are."""
    x = torch.from_numpy(source_offsets(13, 23)) / 11
    y = torch.arange(-11, 12).double() / 11

    def cubic(a: Tensor, b: Tensor) -> Tensor:
        rows, columns = a[:, None], b[None]
        planes = [rows**3 - columns, 2 * rows * columns**2 + 1]
        return torch.stack([plane.expand(len(a), len(b)).flatten() for plane in planes], dim=1)

    assert torch.allclose(interpolate_bias_table(cubic(x, x), 23 * 23), cubic(y, y), atol=1e-5)


def test_beyond_the_widest_offset_the_edge_goes_on() -> None:
    table = torch.randn(5 * 5, 3, generator=torch.Generator().manual_seed(0))
    wide = interpolate_bias_table(table, 9 * 9).view(9, 9, 3)  # whole numbers up to 4, where the source ends at 2.5
    assert torch.equal(wide[0], wide[1]) and torch.equal(wide[:, 8], wide[:, 7])
    assert torch.allclose(wide[[0, 0, 8, 8], [0, 8, 0, 8]], table.view(5, 5, 3)[[0, 0, 4, 4], [0, 4, 0, 4]], atol=1e-6)
    assert interpolate_bias_table(table, 25) is table and wide.dtype == table.dtype


@pytest.mark.parametrize(
    ("rows", "message"), [(9, "3 x 3 is too small"), (24, "24 rows is no square"), (16, "16 rows")]
)
def test_tables_that_cannot_be_interpolated(rows: int, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        interpolate_bias_table(torch.zeros(rows, 2), 49)
