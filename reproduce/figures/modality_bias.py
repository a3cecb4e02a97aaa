"""Fig. 2a: how many masked tokens a model finds with the image and without it, along training."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from reproduce.figures.drawing import LABELS, Band, draw_bands, save
from reproduce.figures.record import write_record
from reproduce.figures.repeats import Repeats, train_repeats


def figure_2a(repeats: Repeats, output: Path) -> list[Path]:
    """Train the repeats that the folder lacks, then draw the mean over all and its band.

    Returns:
        the files that were written: figure2a.pdf, .png and .json.

    Raises:
        ValueError, DataError, WeightsError, OSError: as :func:`train_repeats`.
    """
    curves = train_repeats(repeats)
    steps = curves[0]["steps"]
    bands = {label: Band.of([curve[name] for curve in curves]) for name, label in LABELS.items()}
    figure = draw_bands(steps, bands, "training step", "masked-token accuracy, %")
    written = save(figure, output / "figure2a")
    numbers: dict[str, Any] = {name: bands[label].numbers() for name, label in LABELS.items()}
    record = write_record(
        output / "figure2a.json",
        *("2a", repeats.baseline.name),
        seeds=repeats.seeds,
        held_out={"file": repeats.held_out or "the val split", "pairs": repeats.pairs},
        steps=steps,
        **numbers,
        repeats=curves,
    )
    return [*written, record]
