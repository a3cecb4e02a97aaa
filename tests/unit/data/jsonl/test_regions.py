"""Regions: crops that hold their element, boxes and patches by counting pixels, batches of a fixed size."""

from __future__ import annotations

import random
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from tests.unit.data.jsonl.files import binary, write_lines
from tests.unit.data.lists import tokenizer
from vlp.data.boxes import Box, BoxError, View, crop_around, names_a_side
from vlp.data.draws import SampleKey
from vlp.data.errors import DataError
from vlp.data.jsonl.batches import RowBatches
from vlp.data.jsonl.lines import JsonLines
from vlp.data.jsonl.region_batch import RegionCollator
from vlp.data.jsonl.regions import RegionReader
from vlp.data.jsonl.rows import RowError, RowImages
from vlp.data.jsonl.texts import TextReader, masker_of

TOKENIZER = tokenizer()
WIDTH, HEIGHT = 40, 30  # of the images
RES, PATCH = 64, 16
SIDES = st.tuples(st.integers(0, WIDTH - 1), st.integers(0, HEIGHT - 1), st.integers(1, WIDTH), st.integers(1, HEIGHT))
BOXES = SIDES.map(lambda v: Box(v[0], v[1], min(v[2], WIDTH - v[0]), min(v[3], HEIGHT - v[1])))


def reader(**settings: Any) -> RegionReader:
    texts = TextReader(TOKENIZER, masker_of(TOKENIZER), max_words=30, max_tokens=30)
    settings = {"max_regions": 5, "min_perc_in_image": 0.5, **settings}
    return RegionReader(RowImages("binary", None), texts, RES, PATCH, **settings)


def row(*boxes: Any, **fields: Any) -> dict[str, Any]:
    return {
        "binary": binary(),
        "elems": [{"caption": f"box {i}", "bb": list(b)} for i, b in enumerate(boxes)],
        **fields,
    }


def key(number: int = 0) -> SampleKey:
    return SampleKey(0, 0, "regions", number)


@given(BOXES, st.integers(0, 1 << 30))
def test_a_crop_holds_the_box_and_stays_in_the_image(box: Box, seed: int) -> None:
    left, upper, right, lower = crop_around(box, WIDTH, HEIGHT, random.Random(seed))
    assert 0 <= left <= box.x and 0 <= upper <= box.y
    assert box.x + box.w <= right <= WIDTH and box.y + box.h <= lower <= HEIGHT


@given(BOXES, BOXES, st.booleans())
def test_boxes_are_where_their_pixels_are(box: Box, crop: Box, flip: bool) -> None:
    """The box is painted; what the view shows of it is found by looking."""
    corners = tuple(map(int, (crop.x, crop.y, crop.x + crop.w, crop.y + crop.h)))
    painted = np.zeros((HEIGHT, WIDTH), np.uint8)
    painted[int(box.y) : int(box.y + box.h), int(box.x) : int(box.x + box.w)] = 255
    shown = box.inside(corners)  # type: ignore[arg-type]
    part = painted[corners[1] : corners[3], corners[0] : corners[2]]
    part = part[:, ::-1] if flip else part
    rows, columns = np.nonzero(part)
    if not len(rows):
        assert shown is None
        return
    assert shown is not None
    view = View(corners, flip, RES).box(shown)  # type: ignore[arg-type]
    across, down = RES / crop.w, RES / crop.h
    edges = columns.min() * across, rows.min() * down, (columns.max() + 1) * across, (rows.max() + 1) * down
    assert np.allclose((view.x, view.y, view.x + view.w, view.y + view.h), edges)


@given(st.floats(0, 63), st.floats(0, 63), st.floats(0.01, 64), st.floats(0.01, 64))
def test_patches_are_those_that_a_box_touches(x: float, y: float, w: float, h: float) -> None:
    box = Box(x, y, min(w, RES - x), min(h, RES - y))
    patches = box.patches(RES, PATCH)
    assert patches[0] == 1 and len(patches) == 1 + (RES // PATCH) ** 2
    for number, on in enumerate(patches[1:]):
        left, upper = number % 4 * PATCH, number // 4 * PATCH
        across = min(box.x + box.w, left + PATCH) - max(box.x, left)
        down = min(box.y + box.h, upper + PATCH) - max(box.y, upper)
        assert on == (across > 0 and down > 0)


def test_the_view_is_the_flipped_crop_at_its_size() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (HEIGHT, WIDTH, 3), np.uint8)
    image = Image.fromarray(pixels)
    seen = np.asarray(View((5, 6, 21, 22), True, 16).image(image))
    assert np.array_equal(seen, pixels[6:22, 5:21][:, ::-1])


def test_captions_and_boxes_become_rows() -> None:
    """The crop is the whole image: one row for it, one for each element."""
    given = row((0, 0, WIDTH, HEIGHT), (10, 10, 20, 10), caption="all of it")
    samples = (reader()(given, key(number), "here") for number in range(99))
    sample = next(sample for sample in samples if len(sample["regions"]) == 3)
    regions = {region.text.text: region for region in sample["regions"]}
    whole = regions.pop("all of it")
    assert (whole.is_image, whole.target, whole.atts) == (1, [0.5, 0.5, 1.0, 1.0], [1] * 17)
    everything, part = regions["box 0"], regions["box 1"]
    assert (everything.is_image, everything.target, everything.atts) == (0, [0.5, 0.5, 1.0, 1.0], [1] * 17)
    assert part.is_image == 0 and sum(part.atts) < 17
    assert sample["image"].shape == (3, RES, RES)


@pytest.mark.parametrize("caption", [None, "all"])
def test_the_budget_counts_the_caption_of_the_image(caption: str | None) -> None:
    fields = {"caption": caption} if caption else {}
    given = row(*[(0, 0, WIDTH, HEIGHT)] * 4, **fields)
    texts = [[region.text.text for region in reader(max_regions=3)(given, key(n), "")["regions"]] for n in range(40)]
    assert all(len(set(each)) == 3 and (each[0] == "all") == bool(caption) for each in texts)
    assert {text for each in texts for text in each} >= {f"box {i}" for i in range(4)}


def test_elements_of_which_the_crop_shows_too_little_are_left_out() -> None:
    """More than the share is kept, the share itself is not."""
    one = reader(min_perc_in_image=0.5)
    for shown, kept in ((10, False), (11, True)):
        view = View((0, 0, 10 + shown, HEIGHT), False, RES)
        given = row((10, 0, 20, 10))
        found = list(one.regions(given, given["elems"], view, random.Random(0), key()))
        assert bool(found) == kept


def test_attributes_stand_before_the_caption() -> None:
    given = row((0, 0, WIDTH, HEIGHT))
    given["elems"][0] |= {"caption": ["car", "van"], "attributes": ["red", "old"]}
    texts = {reader()(given, key(n), "")["regions"][0].text.text for n in range(60)}
    assert texts == {"red car", "red van", "old car", "old van"}


@pytest.mark.parametrize(
    ("texts", "flips"),
    [
        (["a man", ["the left dog"]], False),
        (["the man on the right"], False),
        (["a man", "LEFT"], True),  # as officially
        (["a man"], True),
    ],
)
def test_a_careful_flip_spares_what_names_a_side(texts: list[Any], flips: bool) -> None:
    assert names_a_side(texts) != flips
    given = row(*[(0, 0, WIDTH, HEIGHT)] * len(texts))
    for element, text in zip(given["elems"], texts, strict=True):
        element["caption"] = text
    size = (WIDTH, HEIGHT)
    for careful, expected in ((True, flips), (False, True)):
        one = reader(careful_hflip=careful)
        drawn = [one.view(given, given["elems"], size, random.Random(seed)).flip for seed in range(40)]
        assert any(drawn) == expected and not all(drawn)
    given["caption"] = "on the left"
    assert not reader(careful_hflip=True).view(given, given["elems"], size, random.Random(3)).flip


@pytest.mark.parametrize(
    "box",
    [
        None,
        [1, 2, 3],
        "1234",
        [0, 0, 0, 5],
        [0, 0, 5, -1],
        [-1, 0, 5, 5],
        [0, 0, 41, 5],
        [0, 26, 5, 5],
        [0, 0, "a", 5],
        [0, 0, float("nan"), 5],
        [0, 0, float("inf"), 5],
        [True, 0, 5, 5],
        [0, 0, 1e300, 5],
    ],
)
def test_a_bad_box_is_named_counted_and_left_out(box: Any, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    bad = row((0, 0, 5, 5))
    bad["elems"][0]["bb"] = box
    with pytest.raises(BoxError, match="the box"):
        reader()(bad, key(), "here")
    path = write_lines(tmp_path / "regions.jsonl", [bad, row((0, 0, 5, 5))])
    stream = RowBatches(JsonLines([path]), reader(), RegionCollator(3, 0), 1, seed=0)
    assert all(set(batch["text"]) == {"box 0"} for batch in islice(stream, 10))
    assert stream.guards["regions (boxes)"].failures >= 9 and stream.guards["regions"].failures == 0
    assert f"cannot read the region at {path}: line at byte" in caplog.text


def test_many_boxes_may_leave_their_image_but_not_all(tmp_path: Path) -> None:
    path = write_lines(tmp_path / "regions.jsonl", [row((0, 0, 99, 99))] * 3)
    with pytest.raises(DataError, match="100 regions in a row failed"):
        next(iter(RowBatches(JsonLines([path]), reader(), RegionCollator(3, 0), 1, seed=0)))


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ({}, "'elems' must be a list of elements with caption and bb, not nothing"),
        ({"elems": {}}, "not object"),
        ({"elems": []}, "must hold elements"),
        ({"elems": [1]}, "must hold elements"),
        ({"elems": [{"bb": [0, 0, 5, 5]}]}, "no element with a text"),
        ({"elems": [{"bb": [0, 0, 5, 5], "caption": "a"}], "caption": ""}, "has no word"),
    ],
)
def test_a_row_without_regions_says_why(fields: dict[str, Any], says: str) -> None:
    with pytest.raises(RowError, match=says):
        reader()({"binary": binary(), **fields}, key(), "here")


def test_an_element_without_a_text_takes_no_other_with_it() -> None:
    given = row((0, 0, WIDTH, HEIGHT), (0, 0, WIDTH, HEIGHT))
    given["elems"][0]["caption"] = " . "
    assert [region.text.text for region in reader()(given, key(), "")["regions"]] == ["box 1"]


@pytest.mark.parametrize("size", [1, 4, 6, 7, 11, 40])
def test_a_batch_has_its_size_whatever_the_images_show(size: int) -> None:
    samples = [reader()(row(*[(0, 0, WIDTH, HEIGHT)] * count), key(count), "") for count in (1, 3, 2)]
    batch = RegionCollator(size, 0)(samples)
    assert batch["image"].shape[0] == 3
    for name, shape in (("image_atts", (size, 17)), ("target_bbox", (size, 4)), ("is_image", (size,))):
        assert batch[name].shape == shape
    assert batch["target_bbox"].dtype == torch.float32 and batch["image_atts"].dtype == torch.int64
    rows = list(zip(batch["idx_to_group_img"].tolist(), batch["text"], strict=True))
    all_rows = [(image, region.text.text) for image, sample in enumerate(samples) for region in sample["regions"]]
    assert set(rows) <= set(all_rows)
    assert len(set(rows)) == min(size, 6)
    assert batch["index"] == [(1, 3, 2)[image] for image, _ in rows]
