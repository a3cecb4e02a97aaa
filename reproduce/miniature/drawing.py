"""The report's figures: points per seed with their interval, and curves with a band over seeds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import cycle
from typing import NamedTuple

import matplotlib
from matplotlib.figure import Figure

from reproduce.figures.drawing import COLOURS, STYLE, Band, plot_band
from reproduce.miniature.intervals import Interval

Curve = Sequence[Sequence[float]]  # [[step, share], …]


class Points(NamedTuple):
    """A row of :func:`draw_points`: a value per seed, and the interval of their mean if there is one."""

    values: Sequence[float]
    interval: Interval | None


class Over(NamedTuple):
    """A curve over training: a share per step, mean and band over seeds."""

    steps: Sequence[float]
    band: Band


def over_seeds(curves: Sequence[Curve]) -> Over | None:
    """Mean and standard deviation at the steps that all the curves have; None where there is no such step."""
    by_step = [{step: share for step, share in curve} for curve in curves]
    steps = sorted(set[float].intersection(*map(set, by_step))) if by_step else []
    return Over(steps, Band.of([[curve[step] for step in steps] for curve in by_step])) if steps else None


def draw_points(rows: Mapping[str, Points], label: str, alike_within: float | None = None, zero: bool = True) -> Figure:
    """A row for each name: a dot per seed, the mean and its interval.

    ``zero`` draws the line that a difference is judged by, ``alike_within`` the range in which it counts as none.
    """
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(6.4, 0.8 + 0.55 * len(rows)), layout="constrained")
        axes = figure.subplots()
        if zero:
            axes.axvline(0, color="0.5", linewidth=1)
        if alike_within is not None:
            axes.axvspan(-alike_within, alike_within, color="0.9")
        for place, row in enumerate(rows.values()):
            axes.plot(row.values, [place + 0.15] * len(row.values), "o", color=COLOURS[0], alpha=0.6, markersize=4)
            if row.interval is not None:
                axes.plot([row.interval.low, row.interval.high], [place - 0.15] * 2, color=COLOURS[1], linewidth=2.5)
                axes.plot(row.interval.mean, place - 0.15, "D", color=COLOURS[1], markersize=6)
        axes.set_yticks(range(len(rows)), [*rows])
        axes.set_ylim(len(rows) - 0.5, -0.5)
        axes.set_xlabel(label)
    return figure


def draw_curves(panels: Mapping[str, Mapping[str, Over]], label: str) -> Figure:
    """Panels side by side, each with its curves by name."""
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(max(4.2, 2.9 * len(panels)), 2.9), layout="constrained")
        for axes, (title, curves) in zip(
            figure.subplots(1, len(panels), squeeze=False)[0], panels.items(), strict=True
        ):
            for (name, over), colour in zip(curves.items(), cycle(COLOURS), strict=False):
                plot_band(axes, over.steps, over.band, colour, name)
            axes.set_title(title, fontsize=9)
            axes.set_xlabel("training step")
            axes.legend(frameon=False, fontsize=7)
        figure.axes[0].set_ylabel(label)
    return figure
