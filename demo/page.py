"""Fill the report: curves from the runs' metrics, examples from the trained model."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from demo.baseline import Curve
from demo.comparison import Comparison
from demo.examples import Examples, load_examples
from demo.figures import Chart, Series
from demo.report import Report
from demo.settings import Settings
from vlp.files import read_json, regular

NAMES = {"vanilla": "vanilla", "epic": "EPIC"}
EXAMPLES = 4


def build_report(settings: Settings, comparison: Comparison, commands: Sequence[str]) -> Report:
    """Everything that report.html shows."""
    metrics = {name: read_metrics(settings.run_directory(name) / "metrics.jsonl") for name in NAMES}
    examples: Examples = load_examples(settings, EXAMPLES)
    seconds = {name: read_json(settings.path(name, "trained.json"))["seconds"] for name in NAMES}
    name = settings.description.title
    return Report(
        title=f"{name} without and with EPIC",
        lead=(
            f"Two small {name} models were pre-trained on drawn scenes from the same initial weights and for the same "
            f"number of steps, one with {settings.about.objectives} alone, one with EPIC beside "
            "them. The first is the frozen teacher of the second."
        ),
        facts=[
            ("training images", f"{settings.train_images:,} with two captions each"),
            ("steps", f"{settings.steps:,} of {settings.batch * settings.processes} pairs"),
            ("vanilla took", f"{seconds['vanilla']:.0f} s"),
            ("EPIC took", f"{seconds['epic']:.0f} s"),
        ],
        commands=commands,
        scores=comparison.scores,
        remark=comparison.remark,
        losses=loss_charts(metrics, settings.about.curves),
        curriculum=chart(
            metrics,
            "Share of masked tokens that really changed, |T|/|M|",
            {"epic": "epic/train/epic_replaced_share"},
            "It falls as the language model learns the captions: the corruptions get harder to spot.",
        ),
        saliency=examples.saliency,
        verdicts=examples.verdicts,
        gradcam=examples.gradcam,
    )


def read_metrics(path: Path) -> list[dict[str, float]]:
    """The lines of a run's metrics.jsonl; none of a run too short to have logged."""
    return [json.loads(line) for line in regular(path).read_text().splitlines()] if path.exists() else []


def loss_charts(metrics: dict[str, list[dict[str, float]]], curves: Sequence[Curve]) -> list[Chart]:
    """Baseline losses of both runs, EPIC's own of one."""
    charts = [
        *(chart(metrics, curve.title, dict.fromkeys(NAMES, curve.tag), curve.note) for curve in curves),
        chart(metrics, "ITC loss", {"epic": "epic/train/epic_itc"}, "L_ITC of Eq. 2, before lambda."),
        chart(metrics, "Generator loss", {"epic": "epic/train/epic_gen"}, "L_GEN of Eq. 7."),
    ]
    return [drawn for drawn in charts if drawn is not None]


def chart(metrics: dict[str, list[dict[str, float]]], title: str, tags: dict[str, str], note: str) -> Chart | None:
    """One tag per run against the step; None for a run too short to have logged it."""
    series = []
    for name, tag in tags.items():
        lines = [line for line in metrics[name] if tag in line]
        series.append(Series(NAMES[name], [line["step"] for line in lines], [line[tag] for line in lines]))
    return Chart(title, series, note) if any(line.steps for line in series) else None
