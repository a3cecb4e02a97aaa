"""The report: one well-formed file that loads nothing, shows what it was given and refuses what does not fit."""

from __future__ import annotations

import base64
import io
import math
import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from demo.figures import HEIGHT, MOST_POINTS, WIDTH, Chart, Series, data_uri, line_chart, overlay, running_mean
from demo.report import GradCamExample, Report, SaliencyExample, Score, VerdictExample, Verdicts, write_report

VOID = {"meta", "link", "img", "br", "line"}
IMAGE = Image.fromarray(np.arange(32 * 32 * 3, dtype=np.uint8).reshape(32, 32, 3))


class _Page(HTMLParser):
    """Checks the nesting of tags and collects text and references."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[str] = []
        self.references: list[str] = []
        self.text = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.references += [v or "" for k, v in attrs if k in ("src", "href", "srcset", "data", "action", "poster")]
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open and self.open[-1] == tag, f"</{tag}> closes {self.open[-1:]}"
        self.open.pop()

    def handle_data(self, data: str) -> None:
        self.text += data


@pytest.fixture
def report() -> Report:
    steps = list(range(0, 100, 10))
    chart = Chart("MLM", [Series("vanilla", steps, [3.0 - s / 50 for s in steps]), Series("EPIC", steps, [2.0] * 10)])
    tokens = ["a", "<i>red</i>", "ball"]
    good = Verdicts(tokens, [0.99, 0.95, 0.9], [False] * 3)
    bad = Verdicts(["a", "blue", "ball"], [0.98, 0.04, 0.9], [False, True, False])
    heat = np.eye(4, dtype=np.float32)
    return Report(
        title="EPIC & METER",
        lead="Two small models.",
        facts=[("images", "3,000")],
        commands=["python run.py with per_gpu_batchsize=32 data_root=<here>"],
        scores=[
            Score("TR R@1", 24.0, 31.5, 1.0),
            Score("IR R@1", 24.0, 22.0, 1.0),
            Score("AUROC", None, 0.913, 0.5, ""),
        ],
        remark="One seed.",
        losses=[chart],
        curriculum=Chart("|T|/|M|", [Series("share", steps, [0.8 - s / 500 for s in steps])], from_zero=True),
        saliency=[SaliencyExample(IMAGE, tokens, [0.1, 0.6, 0.3], [False, True, True])],
        verdicts=[VerdictExample(IMAGE, good, bad)],
        gradcam=[GradCamExample(IMAGE, "a red ball", "red", 0.9, heat, "blue", 0.34, heat.T)],
    )


def _read(path: Path) -> _Page:
    page = _Page()
    page.feed(path.read_text(encoding="utf-8"))
    page.close()
    assert page.open == []
    return page


def test_the_page_is_well_formed_and_loads_nothing(report: Report, tmp_path: Path) -> None:
    path = tmp_path / "new" / "report.html"
    write_report(path, report)
    page = _read(path)
    source = path.read_text(encoding="utf-8")
    assert source.lstrip().startswith("<!DOCTYPE html>")
    assert all(reference.startswith("data:") for reference in page.references)
    assert page.tags.count("img") == 5
    assert "script" not in page.tags and "@import" not in source and "url(" not in source
    assert not re.search(r"https?://", source)
    assert [child.name for child in path.parent.iterdir()] == ["report.html"]


def test_the_page_shows_what_it_was_given_and_escapes_it(report: Report, tmp_path: Path) -> None:
    write_report(tmp_path / "report.html", report)
    page = _read(tmp_path / "report.html")
    words = " ".join(page.text.split())
    for expected in ("EPIC & METER", "3,000", "data_root=<here>", "+7.5", "−2.0", "0.913", "One seed.", "<i>red</i>"):
        assert expected in words, expected
    for verdict in ("true: redD: consistent with p = 0.90", "replaced: blueD: inconsistent with p = 0.66"):
        assert verdict in words
    assert "0highest of the map" in words
    assert "<i>red</i>" not in (tmp_path / "report.html").read_text(encoding="utf-8")
    assert page.tags.count("section") == 6


def test_sections_without_content_are_left_out(report: Report, tmp_path: Path) -> None:
    bare = replace(report, losses=(), curriculum=None, saliency=(), verdicts=(), gradcam=())
    write_report(tmp_path / "report.html", bare)
    page = _read(tmp_path / "report.html")
    assert page.tags.count("section") == 1
    assert "img" not in page.tags


def test_the_better_score_is_bold(report: Report, tmp_path: Path) -> None:
    write_report(tmp_path / "report.html", report)
    source = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert re.findall(r'<td class="best">([^<]*)</td>', source) == ["31.5", "24.0"]


def test_a_failed_report_keeps_the_old_one(report: Report, tmp_path: Path) -> None:
    path = tmp_path / "report.html"
    path.write_text("old")
    hopeless = replace(report, losses=[Chart("empty", [Series("x", [0], [math.nan])])])
    with pytest.raises(ValueError, match="'empty'"):
        write_report(path, hopeless)
    assert path.read_text() == "old"


def _points(svg: str, classes: str) -> list[tuple[str, float, float]]:
    found = re.search(rf'<path class="line {classes}" d="([^"]*)"', svg)
    assert found
    return [(m[1], float(m[2]), float(m[3])) for m in re.finditer(r"([ML])([\d.]+) ([\d.]+)", found[1])]


def test_a_line_goes_through_its_values() -> None:
    values = [4.0, 1.0, 3.0, 2.0]
    svg = line_chart(Chart("c", [Series("s", [0, 10, 20, 30], values)]))
    points = _points(svg, "line-0")
    assert [command for command, _, _ in points] == ["M", "L", "L", "L"]
    heights = [y for _, _, y in points]
    slope = (heights[1] - heights[0]) / (values[1] - values[0])
    assert slope < 0
    assert heights == pytest.approx([heights[0] + slope * (v - values[0]) for v in values], abs=0.15)
    assert all(0 < x < WIDTH and 0 < y < HEIGHT for _, x, y in points)


def test_a_gap_interrupts_the_line_and_long_series_are_thinned_and_smoothed() -> None:
    svg = line_chart(Chart("c", [Series("s", [0, 1, 2, 3], [1.0, math.nan, 2.0, 3.0])]))
    assert [command for command, _, _ in _points(svg, "line-0")] == ["M", "M", "L"]
    many = line_chart(Chart("c", [Series("s", list(range(5000)), [float(i % 7) for i in range(5000)])]))
    faint, bold = _points(many, "line-0 faint"), _points(many, "line-0")
    assert len(faint) == len(bold) <= MOST_POINTS
    assert np.ptp([y for _, _, y in bold]) < 0.5 * np.ptp([y for _, _, y in faint])


def test_running_mean_leaves_out_what_is_not_finite() -> None:
    assert running_mean([2.0, math.nan, 4.0]) == pytest.approx([3.0, 3.0, 3.0])
    assert math.isnan(running_mean([math.nan])[0])


def test_a_heat_map_brightens_its_hot_spot() -> None:
    heat = np.zeros((4, 4), dtype=np.float32)
    heat[0, 3] = 5.0
    grey = Image.new("RGB", (40, 40), (90, 90, 90))
    pixels = np.asarray(overlay(grey, heat, scale=2)).astype(int).sum(axis=-1)
    assert pixels.shape == (80, 80)
    row, column = np.unravel_index(pixels.argmax(), pixels.shape)
    assert row < 20 and column >= 60
    flat = np.asarray(overlay(grey, np.zeros((4, 4), dtype=np.float32)))
    assert np.ptp(flat.reshape(-1, 3), axis=0).max() == 0


def test_a_data_uri_holds_the_very_pixels() -> None:
    head, payload = data_uri(IMAGE).split(",")
    assert head == "data:image/png;base64"
    with Image.open(io.BytesIO(base64.b64decode(payload))) as image:
        assert np.array_equal(np.asarray(image), np.asarray(IMAGE))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Series("s", [1, 2], [1.0]), "'s': 2 steps but 1 values"),
        (lambda: SaliencyExample(IMAGE, ["a"], [0.5, 0.5], [True]), "lengths differ"),
        (lambda: Verdicts(["a"], [1.2], [False]), r"must lie in \[0, 1\]"),
        (lambda: overlay(IMAGE, np.zeros(4, dtype=np.float32)), r"two dimensions, got shape \(4,\)"),
    ],
)
def test_data_that_does_not_fit_is_refused(make: object, message: str) -> None:
    assert callable(make)
    with pytest.raises(ValueError, match=message):
        make()
