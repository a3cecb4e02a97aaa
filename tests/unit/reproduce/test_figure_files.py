"""What the figures are asked about, and what they write."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from reproduce.figures.drawing import Band, Panel, draw_bands, draw_bars, draw_images, enlarged, save
from reproduce.figures.given_pairs import Given, add_pairs, given_pairs
from vlp.data.errors import DataError


def asked(*argv: str) -> list[Given]:
    parser = argparse.ArgumentParser()
    add_pairs(parser, words=True)
    return given_pairs(parser.parse_args(argv))


def test_pairs_come_from_flags_and_from_a_list(tmp_path: Path) -> None:
    path = tmp_path / "pairs.json"
    path.write_text(json.dumps([{"image": "c.png", "caption": "three", "word": "three"}]))
    given = asked("--image", "a.png", "--caption", "one", "--image", "b.png", "--caption", "two", "--pairs", str(path))
    assert given == [
        Given(Path("a.png"), "one"),
        Given(Path("b.png"), "two"),
        Given(tmp_path / "c.png", "three", "three"),
    ]
    assert asked("--image", "a", "--caption", "b", "--word", "b", "--replace", "c") == [Given(Path("a"), "b", "b", "c")]


@pytest.mark.parametrize(
    ("argv", "says"),
    [
        ([], "no pair is given: --image FILE --caption TEXT, or --pairs LIST.json"),
        (["--image", "a.png"], "--image is given 1 times, --caption 0 times: give one for each image"),
        (["--caption", "one"], "--image is given 0 times, --caption 1 times"),
        (["--image", "a", "--caption", "b", "--word", "x", "--word", "y"], "--word 2 times"),
        (["--pairs", "nowhere.json"], "--pairs nowhere.json: no such file"),
    ],
)
def test_pairs_that_do_not_fit_are_refused(argv: list[str], says: str) -> None:
    with pytest.raises((ValueError, DataError), match=says):
        asked(*argv)


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ("{", "no JSON text"),
        ("{}", "expected a list of objects with image and caption"),
        ('[{"image": "a"}]', "row 0: expected an object with image and caption"),
        ('[{"image": "a", "caption": "b"}, {"image": "a", "caption": 3}]', "row 1: caption is 3, expected text"),
    ],
)
def test_a_list_that_does_not_serve_names_its_row(tmp_path: Path, content: str, says: str) -> None:
    path = tmp_path / "pairs.json"
    path.write_text(content)
    with pytest.raises(DataError, match=says):
        asked("--pairs", str(path))


def test_a_missing_image_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"--image .*none.png: no such file"):
        Given(tmp_path / "none.png", "a dog").content()


def test_a_band_is_mean_and_standard_deviation() -> None:
    values = [[0.1, 0.5], [0.3, 0.5], [0.8, 0.2]]
    band = Band.of(values)
    for point, of_point in enumerate(zip(*values, strict=True)):
        mean = sum(of_point) / 3
        assert band.mean[point] == pytest.approx(mean)
        assert band.deviation[point] == pytest.approx((sum((v - mean) ** 2 for v in of_point) / 2) ** 0.5)
    assert Band.of([[0.1, 0.5]]).numbers() == {"mean": [0.1, 0.5], "deviation": [0.0, 0.0]}


def heights(figure: Any) -> list[float]:
    return [bar.get_height() for bar in figure.axes[1].patches]


def test_bars_are_as_high_as_alpha() -> None:
    figure = draw_bars(Image.new("RGB", (9, 7)), ["a", "red", "cup"], [0.2, 0.5, 0.3])
    assert heights(figure) == [0.2, 0.5, 0.3]
    assert [label.get_text() for label in figure.axes[1].get_xticklabels()] == ["a", "red", "cup"]


def test_curves_are_drawn_in_percent_with_their_bands() -> None:
    band = Band(np.array([0.1, 0.4]), np.array([0.05, 0.1]))
    figure = draw_bands([0, 10], {"one": band, "two": band}, "step", "accuracy")
    (axes,) = figure.axes
    assert [line.get_ydata().tolist() for line in axes.lines] == [[10.0, 40.0]] * 2  # type: ignore[union-attr]
    corners = axes.collections[0].get_paths()[0].vertices
    assert {(x, round(y, 6)) for x, y in np.asarray(corners)} == {(0, 5.0), (0, 15.0), (10, 30.0), (10, 50.0)}


def test_a_figure_is_written_as_pdf_with_real_text_and_as_png(tmp_path: Path) -> None:
    image = Image.new("RGB", (90, 60), "red")
    for number in range(2):
        figure = draw_images([Panel("“red” put for “β”", image, 0.25), Panel("β", image)])
        written = save(figure, tmp_path / f"{number}" / "figure5_1")
        assert [path.name for path in written] == ["figure5_1.pdf", "figure5_1.png"]
    pdf = (tmp_path / "0" / "figure5_1.pdf").read_bytes()
    assert b"/CIDFontType2" in pdf and b"/Type3" not in pdf
    for name in ("figure5_1.pdf", "figure5_1.png"):
        assert (tmp_path / "0" / name).read_bytes() == (tmp_path / "1" / name).read_bytes()


def test_the_colours_of_a_heat_map_have_a_scale_with_named_ends() -> None:
    image = Image.new("RGB", (90, 60), "red")
    figure = draw_images([Panel("the image", image), Panel("its heat", image, 0.25), Panel("none", image, 0.0)])
    of_image, *scales = figure.axes[3:]
    assert not of_image.axison and all(axes.axison for axes in scales)
    ends = [[label.get_text() for label in axes.get_xticklabels()] for axes in scales]
    assert ends == [["0", "0.25 (highest)"], ["0", "0 everywhere"]]


def test_a_small_image_is_enlarged_and_a_large_one_kept() -> None:
    assert enlarged(Image.new("RGB", (80, 64))).size == (400, 320)
    assert enlarged(Image.new("RGBA", (700, 500))).size == (700, 500)
