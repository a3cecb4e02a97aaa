"""Figures as PDF and PNG: bars of tokens, heat maps, and curves with bands."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import cycle
from pathlib import Path
from typing import Any, NamedTuple

import matplotlib
import numpy as np
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from numpy.typing import NDArray
from PIL import Image

from demo.figures import HEAT_MAP
from vlp.files import atomic_open

# Type 42 fonts stay text: what submission systems ask for. Colours that also differ in grey.
STYLE: Any = {
    **{"pdf.fonttype": 42, "ps.fonttype": 42, "font.size": 9},
    **{"axes.spines.top": False, "axes.spines.right": False},
}
COLOURS = ("#1f5fa8", "#d1731f", "#2f8f6f", "#7a3f98", "#111111", "#b03060")
LABELS = {"with_image": "with the image", "text_only": "text alone"}  # of the models of Fig. 2
_DPI = 90
_SHORTEST = 320  # pixels of the shorter side of an image that is drawn, so that its patches can be told apart


class Band(NamedTuple):
    """A curve over repeats: its mean, and the standard deviation on either side."""

    mean: NDArray[np.float64]  # (points,)
    deviation: NDArray[np.float64]  # (points,)

    @classmethod
    def of(cls, repeats: Sequence[Sequence[float]]) -> Band:
        """Of (repeats, points); the deviation of one repeat is 0."""
        values = np.asarray(repeats, dtype=np.float64)
        deviation = values.std(axis=0, ddof=1) if len(values) > 1 else np.zeros(values.shape[1])
        return cls(values.mean(axis=0), deviation)

    def numbers(self) -> dict[str, list[float]]:
        """As JSON holds them."""
        return {"mean": self.mean.tolist(), "deviation": self.deviation.tolist()}


class Panel(NamedTuple):
    """An image under a title; ``peak`` is of a heat map its largest value, which has the brightest colour."""

    title: str
    image: Image.Image
    peak: float | None = None


def draw_bars(image: Image.Image, tokens: Sequence[str], alpha: Sequence[float]) -> Figure:
    """Fig. 4: the image, and beside it a bar per token."""
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(2.6 + max(0.36 * len(tokens), 2.4), 2.6), layout="constrained")
        picture, bars = figure.subplots(1, 2, width_ratios=(2.6, max(0.36 * len(tokens), 2.4)))
        _show(picture, image)
        places = range(len(tokens))
        bars.bar(places, alpha, color=COLOURS[0])
        bars.set_xticks(places, tokens, rotation=45, ha="right", rotation_mode="anchor")
        bars.set_ylabel("saliency α")
    return figure


def draw_images(panels: Sequence[Panel]) -> Figure:
    """Fig. 5: images side by side, each under its title, and under a heat map what its colours stand for."""
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(2.6 * len(panels), 3.3), layout="constrained")
        pictures, scales = figure.subplots(2, len(panels), height_ratios=(1, 0.035), squeeze=False)
        for picture, scale, panel in zip(pictures, scales, panels, strict=True):
            _show(picture, panel.image)
            picture.set_title(panel.title, fontsize=8)
            if panel.peak is None:
                scale.axis("off")
            else:
                _draw_scale(figure, scale, panel.peak)
    return figure


def draw_bands(x: Sequence[float], bands: Mapping[str, Band], x_label: str, y_label: str) -> Figure:
    """Fig. 2: curves with their bands; all are shares, drawn in percent."""
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(4.2, 2.9), layout="constrained")
        axes = figure.subplots()
        for (name, band), colour in zip(bands.items(), cycle(COLOURS), strict=False):
            plot_band(axes, x, band, colour, name)
        axes.set_xlabel(x_label)
        axes.set_ylabel(y_label)
        axes.legend(frameon=False)
    return figure


def plot_band(axes: matplotlib.axes.Axes, x: Sequence[float], band: Band, colour: str, name: str) -> None:
    """A curve of shares with its band, in percent."""
    low, high = (100 * (band.mean + sign * band.deviation) for sign in (-1, 1))
    axes.fill_between(x, low, high, color=colour, alpha=0.25, linewidth=0)
    axes.plot(x, 100 * band.mean, color=colour, label=name)


def save(figure: Figure, path: Path) -> list[Path]:
    """Write ``path`` with the suffixes .pdf and .png, each atomically; the same figure gives the same bytes."""
    written = []
    with matplotlib.rc_context(STYLE):
        for kind in ("pdf", "png"):
            file = path.with_suffix(f".{kind}")
            with atomic_open(file) as handle:
                figure.savefig(handle, format=kind, dpi=_DPI, metadata={"CreationDate": None} if kind == "pdf" else {})
            written.append(file)
    return written


def enlarged(image: Image.Image) -> Image.Image:
    """A small image a whole number of times larger, in RGB."""
    times = max(1, round(_SHORTEST / min(image.size)))
    return image.convert("RGB").resize((image.width * times, image.height * times), Image.Resampling.BICUBIC)


def _draw_scale(figure: Figure, axes: matplotlib.axes.Axes, peak: float) -> None:
    colours = ScalarMappable(Normalize(0, 1), HEAT_MAP)
    bar = figure.colorbar(colours, cax=axes, orientation="horizontal", ticks=[0, 1], label="attention × its gradient")
    low, high = bar.ax.set_xticklabels(["0", f"{peak:.2g} (highest)" if peak > 0 else "0 everywhere"])
    low.set_horizontalalignment("left")
    high.set_horizontalalignment("right")


def _show(axes: matplotlib.axes.Axes, image: Image.Image) -> None:
    axes.imshow(np.asarray(enlarged(image)))
    axes.axis("off")
