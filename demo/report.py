"""The demo's report: one HTML file that holds everything it shows and loads nothing."""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import jinja2
import numpy as np
from matplotlib import colormaps
from matplotlib.colors import to_hex
from numpy.typing import NDArray
from PIL import Image

from demo.figures import HEAT_MAP, Chart, data_uri, line_chart, overlay
from demo.judgement import in_words

TEMPLATES = Path(__file__).parent / "templates"


@dataclass(frozen=True)
class Score:
    """A row of the table, all values in `unit` ("%" or ""); None means that the value does not exist."""

    name: str
    vanilla: float | None
    epic: float | None
    chance: float | None = None
    unit: str = "%"

    @property
    def difference(self) -> float | None:
        """EPIC minus vanilla."""
        return None if self.vanilla is None or self.epic is None else self.epic - self.vanilla


@dataclass(frozen=True)
class SaliencyExample:
    """Fig. 4: alpha of Eq. 8 per token, and which tokens only the image determines."""

    image: Image.Image
    tokens: Sequence[str]
    alpha: Sequence[float]
    salient: Sequence[bool]

    def __post_init__(self) -> None:
        """Raises ValueError if the sequences differ in length."""
        _same_length("saliency example", tokens=self.tokens, alpha=self.alpha, salient=self.salient)


@dataclass(frozen=True)
class Verdicts:
    """D of Eq. 1 for every token of one sentence; `replaced` marks T of Eq. 6."""

    tokens: Sequence[str]
    consistent: Sequence[float]
    replaced: Sequence[bool]

    def __post_init__(self) -> None:
        """Raises ValueError if the sequences differ in length or a probability leaves [0, 1]."""
        _same_length("verdicts", tokens=self.tokens, consistent=self.consistent, replaced=self.replaced)
        if not all(0.0 <= p <= 1.0 for p in self.consistent):
            raise ValueError(f"verdicts: probabilities must lie in [0, 1], got {list(self.consistent)}")


@dataclass(frozen=True)
class VerdictExample:
    """The same image with its caption and with the corrupted one; both have equally many tokens."""

    image: Image.Image
    original: Verdicts
    corrupted: Verdicts

    def __post_init__(self) -> None:
        """Raises ValueError if the sentences differ in length."""
        _same_length("verdict example", original=self.original.tokens, corrupted=self.corrupted.tokens)


@dataclass(frozen=True)
class GradCamExample:
    """Fig. 5: D and heat maps (h, w) of one token of the caption, as it stands and replaced."""

    image: Image.Image
    caption: str
    original: str
    original_consistent: float
    original_heat: NDArray[np.float32]
    replaced: str
    replaced_consistent: float
    replaced_heat: NDArray[np.float32]


@dataclass(frozen=True)
class Report:
    """Everything that the page shows; sections without content are left out.

    `facts` are pairs such as ("images", "3,000"); `remark` is the sentence beneath the table; `commands` are the
    launcher command lines that were run.
    """

    title: str
    lead: str
    facts: Sequence[tuple[str, str]]
    commands: Sequence[str]
    scores: Sequence[Score]
    remark: str = ""
    losses: Sequence[Chart] = ()
    curriculum: Chart | None = None
    saliency: Sequence[SaliencyExample] = ()
    verdicts: Sequence[VerdictExample] = ()
    gradcam: Sequence[GradCamExample] = field(default=())


def write_report(path: Path, report: Report) -> None:
    """Write the report as one self-contained HTML file, atomically.

    Raises:
        ValueError: if a chart has nothing to draw or a heat map is not two-dimensional.
    """
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"number": _number, "signed": _signed, "percent": _percent, "image": data_uri}
    environment.globals |= {
        "line_chart": line_chart,
        "overlay": overlay,
        "in_words": in_words,
        "bars": _bars,
        "heat_colours": _heat_colours(),
        "zip": zip,
    }
    page = environment.get_template("report.html").render(report=report)
    path.parent.mkdir(parents=True, exist_ok=True)
    fresh = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    fresh.write_text(page, encoding="utf-8")
    os.replace(fresh, path)


def _same_length(what: str, **sequences: Sequence[object]) -> None:
    lengths = {name: len(sequence) for name, sequence in sequences.items()}
    if len(set(lengths.values())) > 1:
        raise ValueError(f"{what}: lengths differ: {lengths}")


def _number(value: float | None, unit: str = "") -> str:
    if value is None or not math.isfinite(value):
        return "–"
    return f"{value:.1f}" if unit == "%" else f"{value:.3f}"


def _signed(value: float | None, unit: str = "") -> str:
    if value is None or not math.isfinite(value):
        return ""
    text = _number(abs(value), unit)
    return ("+" if value >= 0 else "−") + text


def _percent(share: float) -> str:
    return f"{100 * share:.0f}"


def _heat_colours() -> str:
    """Stops of the colours of heat maps, from 0 to a map's highest value, as CSS."""
    return ", ".join(to_hex(colormaps[HEAT_MAP](stop)) for stop in np.linspace(0, 1, 9))


def _bars(alpha: Sequence[float]) -> list[float]:
    """Return heights in percent of the largest value."""
    peak = max(alpha, default=0.0)
    return [100 * value / peak if peak > 0 else 0.0 for value in alpha]
