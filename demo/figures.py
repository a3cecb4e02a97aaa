"""Figures as text that an HTML page carries inside itself: line charts as SVG, images as data URIs."""

from __future__ import annotations

import base64
import html
import io
import math
from collections.abc import Sequence
from dataclasses import dataclass

import matplotlib
import numpy as np
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray
from PIL import Image

WIDTH, HEIGHT = 560, 300
LEFT, RIGHT, TOP, BOTTOM = 52, 14, 12, 40
MOST_POINTS = 400  # per drawn line
SMOOTHED_FROM = 60  # points; shorter series are drawn as they are
WINDOW = 6  # points on either side in the running mean
HEAT_MAP = "inferno"


@dataclass(frozen=True)
class Series:
    """One line: `values[i]` was measured at `steps[i]`; values that are not finite leave a gap."""

    name: str
    steps: Sequence[float]
    values: Sequence[float]

    def __post_init__(self) -> None:
        """Raises ValueError if steps and values differ in number."""
        if len(self.steps) != len(self.values):
            raise ValueError(f"series {self.name!r}: {len(self.steps)} steps but {len(self.values)} values")


@dataclass(frozen=True)
class Chart:
    """A line chart; `note` says in a sentence what one sees. `from_zero` starts the vertical axis at 0."""

    title: str
    series: Sequence[Series]
    note: str = ""
    x_label: str = "step"
    from_zero: bool = False


def data_uri(image: Image.Image) -> str:
    """Return the image as a `data:` URI holding a PNG."""
    buffer = io.BytesIO()
    image.convert("RGB").save(buffer, "PNG", optimize=True)
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode("ascii")


def overlay(image: Image.Image, heat: NDArray[np.float32], scale: int = 2) -> Image.Image:
    """Lay a heat map (h, w), not negative, over an image `scale` times enlarged; the hottest spot is brightest.

    Raises:
        ValueError: if the map is not two-dimensional.
    """
    heat = np.asarray(heat, dtype=np.float32)
    if heat.ndim != 2:
        raise ValueError(f"a heat map has two dimensions, got shape {heat.shape}")
    size = (image.width * scale, image.height * scale)
    peak = float(heat.max())
    grid = Image.fromarray(heat / peak if peak > 0 else heat)
    level = np.clip(np.asarray(grid.resize(size, Image.Resampling.BICUBIC)), 0.0, 1.0)[..., None]
    colours = matplotlib.colormaps[HEAT_MAP](level[..., 0])[..., :3] * 255
    grey = np.asarray(image.convert("L").convert("RGB").resize(size, Image.Resampling.BICUBIC), dtype=np.float32)
    base = 0.7 * np.asarray(image.convert("RGB").resize(size, Image.Resampling.BICUBIC)) + 0.2 * grey
    weight = 0.15 + 0.6 * level
    return Image.fromarray(np.clip((1 - weight) * base + weight * colours, 0, 255).astype(np.uint8))


def running_mean(values: Sequence[float]) -> list[float]:
    """Mean over the WINDOW neighbours on either side; values that are not finite are left out of it."""
    array = np.asarray(values, dtype=np.float64)
    finite = np.isfinite(array)
    kernel = np.ones(2 * WINDOW + 1)
    inside = slice(WINDOW, WINDOW + len(array))
    total = np.convolve(np.where(finite, array, 0.0), kernel)[inside]
    count = np.convolve(finite, kernel)[inside]
    return [float(t / c) if c > 0.5 else math.nan for t, c in zip(total, count, strict=True)]


def line_chart(chart: Chart) -> str:
    """Draw the chart as an SVG element whose colours are classes `line-0`, `line-1`, … of the page.

    Raises:
        ValueError: if no series holds a finite value.
    """
    finite = [(x, y) for s in chart.series for x, y in zip(s.steps, s.values, strict=True) if math.isfinite(y)]
    if not finite:
        raise ValueError(f"chart {chart.title!r}: no finite value to draw")
    x_ticks = _ticks([x for x, _ in finite])
    y_ticks = _ticks([y for _, y in finite] + [0.0] * chart.from_zero)
    scale = _Scale(x_ticks[0], x_ticks[-1], y_ticks[0], y_ticks[-1])
    parts = [
        f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{html.escape(chart.title, quote=True)}">',
        *_axes(scale, x_ticks, y_ticks, chart.x_label),
    ]
    for number, series in enumerate(chart.series):
        if len(series.values) >= SMOOTHED_FROM:
            parts.append(_path(series.steps, series.values, scale, f"line-{number} faint"))
            parts.append(_path(series.steps, running_mean(series.values), scale, f"line-{number}"))
        else:
            parts.append(_path(series.steps, series.values, scale, f"line-{number}"))
    return "\n".join([*parts, "</svg>"])


@dataclass(frozen=True)
class _Scale:
    """Maps values to positions in the drawing."""

    x_low: float
    x_high: float
    y_low: float
    y_high: float

    def x(self, value: float) -> float:
        return LEFT + (value - self.x_low) / (self.x_high - self.x_low) * (WIDTH - LEFT - RIGHT)

    def y(self, value: float) -> float:
        return HEIGHT - BOTTOM - (value - self.y_low) / (self.y_high - self.y_low) * (HEIGHT - TOP - BOTTOM)


def _ticks(values: Sequence[float]) -> list[float]:
    """Return round positions that enclose all values."""
    low, high = min(values), max(values)
    if low == high:
        low, high = low - 0.5, high + 0.5
    return [float(tick) for tick in MaxNLocator(nbins=5, steps=[1, 2, 2.5, 5, 10]).tick_values(low, high)]


def _axes(scale: _Scale, x_ticks: list[float], y_ticks: list[float], x_label: str) -> list[str]:
    parts = []
    for tick in y_ticks:
        y = scale.y(tick)
        parts.append(f'<line class="grid" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y:.1f}" y2="{y:.1f}"/>')
        parts.append(f'<text class="tick" x="{LEFT - 8}" y="{y + 4:.1f}" text-anchor="end">{tick:.4g}</text>')
    for tick in x_ticks:
        x, y = scale.x(tick), HEIGHT - BOTTOM + 17
        parts.append(f'<text class="tick" x="{x:.1f}" y="{y}" text-anchor="middle">{tick:.6g}</text>')
    middle = (LEFT + WIDTH - RIGHT) / 2
    label = html.escape(x_label)
    return [*parts, f'<text class="tick" x="{middle:.0f}" y="{HEIGHT - 4}" text-anchor="middle">{label}</text>']


def _path(steps: Sequence[float], values: Sequence[float], scale: _Scale, classes: str) -> str:
    """Return the polyline through at most MOST_POINTS of the points, interrupted where a value is not finite."""
    stride = max(1, math.ceil(len(values) / MOST_POINTS))
    commands, pen_down = [], False
    for x, y in list(zip(steps, values, strict=True))[::stride]:
        if math.isfinite(y):
            commands.append(f"{'L' if pen_down else 'M'}{scale.x(x):.1f} {scale.y(y):.1f}")
        pen_down = math.isfinite(y)
    return f'<path class="line {classes}" d="{" ".join(commands)}"/>'
