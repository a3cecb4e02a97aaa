"""Images lie under their root: names that lead out of it are refused, unless all are allowed."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.unit.data.lists import write_images, write_list
from tests.unit.data.raw import write
from vlp.data.errors import DataError
from vlp.data.images import ImageError
from vlp.data.json.dataset import Roots
from vlp.data.json.datasets import PretrainDataset
from vlp.data.json.images import ImageRoot
from vlp.data.json.transforms import EvalTransform

NAMES = st.lists(st.sampled_from(["a", "b", "..", ".", "", "...", "a..b"]), min_size=1, max_size=6).map("/".join)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    write_images(tmp_path, ["images/in/1.jpg", "outside.jpg"])
    return tmp_path / "images"


@settings(max_examples=200, deadline=None)
@given(NAMES, st.booleans())
def test_a_name_is_refused_where_walking_it_leaves_the_root(name: str, absolute: bool) -> None:
    depth, left = 0, absolute
    for part in name.split("/"):
        depth += {"": 0, ".": 0, "..": -1}.get(part, 1)
        left |= depth < 0
    given_name = ("/elsewhere/" + "x/" * 9 if absolute else "./" * name.startswith("/")) + name
    complaint = ImageRoot(Path.cwd(), "image_root").complaint(given_name)
    assert (complaint is not None) == left
    assert ImageRoot(Path.cwd(), "image_root", outside=True).complaint(given_name) is None


def test_images_under_the_root_are_read(root: Path) -> None:
    images = ImageRoot(root, "image_root")
    for name in ("in/1.jpg", "in/../in/1.jpg", str(root / "in/1.jpg")):
        assert images.complaint(name) is None
        assert images.read(name, "l.json: row 0").mode == "RGB"


def test_what_leaves_is_refused_with_its_row(root: Path) -> None:
    (root / "link.jpg").symlink_to(root.parent / "outside.jpg")
    (root / "folder").symlink_to(root.parent)
    for name in ("link.jpg", "folder/outside.jpg", "../outside.jpg", str(root.parent / "outside.jpg")):
        with pytest.raises(
            DataError, match=r"l.json: row 3: the image .* lies outside of vg_root=.*allow_outside_root"
        ):
            ImageRoot(root, "vg_root").read(name, "l.json: row 3")
        assert ImageRoot(root, "vg_root", outside=True).read(name, "l.json: row 3").size == (40, 30)


def test_links_that_stay_inside_and_a_linked_root_are_fine(root: Path) -> None:
    (root / "link.jpg").symlink_to(root / "in/1.jpg")
    (root.parent / "linked").symlink_to(root)
    for folder in (root, root.parent / "linked"):
        assert ImageRoot(folder, "image_root").read("link.jpg", "here").size == (40, 30)


@pytest.mark.parametrize("name", ["none.jpg", "in", "fifo", "in/1.jpg/2.jpg", "broken.jpg", "x" * 5000])
def test_what_is_no_image_is_an_image_error(root: Path, name: str) -> None:
    os.mkfifo(root / "fifo")
    write(root / "broken.jpg", b"\xff\xd8 no image")
    with pytest.raises(ImageError):
        ImageRoot(root, "image_root").read(name, "here")


def test_the_root_must_be_there(root: Path) -> None:
    with pytest.raises(DataError, match=r"image_root=.*none: no such folder"):
        ImageRoot(root / "none", "image_root")


def test_every_row_is_checked_before_a_run_starts(tmp_path: Path) -> None:
    rows = [{"image": "a.jpg", "caption": "x"}, {"image": "../b.jpg", "caption": "x"}]
    path = write_list(tmp_path / "lists/l.json", rows)
    with pytest.raises(DataError, match=r"l.json: row 1: the image '../b.jpg' lies outside of image_root=.*lists"):
        PretrainDataset([path], Roots({"image_root": ""}), EvalTransform(8))
    write_images(tmp_path, ["lists/a.jpg", "b.jpg"])
    allowed = PretrainDataset([path], Roots({"image_root": ""}, outside=True), EvalTransform(8))
    assert [len(allowed[i]["images"]) for i in range(2)] == [1, 1]
