"""The report's curves: of each run's metrics, the values that were logged at the steps where they were."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from demo import page
from demo.baselines import BASELINES
from demo.comparison import Comparison
from demo.examples import Examples
from demo.figures import Series
from demo.report import Score
from demo.settings import parse

LINES = {
    "vanilla": [
        {"step": 9, "mlm/train/loss": 5.0, "itm/train/loss": 0.7},
        {"step": 10, "val/the_metric": 1.0},
        {"step": 19, "mlm/train/loss": 4.0, "itm/train/loss": 0.6},
    ],
    "epic": [
        {"step": 9, "mlm/train/loss": 4.5, "itm/train/loss": 0.5},
        {"step": 9, "epic/train/epic_itc": 0.4, "epic/train/epic_gen": 3.0, "epic/train/epic_replaced_share": 0.8},
        {"step": 19, "epic/train/epic_itc": 0.3, "epic/train/epic_gen": 2.0},
    ],
}


def test_what_the_page_is_given(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(page, "load_examples", lambda settings, count: Examples([], [], []))
    settings = parse(["--baseline", "vilt", "--output", str(tmp_path), "--steps", "20", "--batch", "5"])
    for name, lines in LINES.items():
        settings.run_directory(name).mkdir(parents=True)
        settings.path(name, "trained.json").write_text(json.dumps({"seconds": 12 if name == "vanilla" else 34.4}))
        text = "".join(json.dumps(line) + "\n" for line in lines)
        (settings.run_directory(name) / "metrics.jsonl").write_text(text)
    comparison = Comparison([Score("TR R@1", 1.0, 2.0)], "One run each.")
    report = page.build_report(settings, comparison, ["cd vilt && python run.py"])
    assert report.title == "ViLT without and with EPIC" and report.scores == comparison.scores
    assert report.commands == ["cd vilt && python run.py"] and report.remark == "One run each."
    facts = dict(report.facts)
    assert facts["steps"] == f"20 of {5 * settings.processes} pairs"
    assert facts["training images"].startswith(f"{settings.train_images:,} ")
    assert (facts["vanilla took"], facts["EPIC took"]) == ("12 s", "34 s")
    curves = {chart.title: list(chart.series) for chart in report.losses}
    assert curves == {
        "MLM loss": [Series("vanilla", [9, 19], [5.0, 4.0]), Series("EPIC", [9], [4.5])],
        "ITM loss": [Series("vanilla", [9, 19], [0.7, 0.6]), Series("EPIC", [9], [0.5])],
        "ITC loss": [Series("EPIC", [9, 19], [0.4, 0.3])],
        "Generator loss": [Series("EPIC", [9, 19], [3.0, 2.0])],
    }
    assert report.curriculum is not None and report.curriculum.series == [Series("EPIC", [9], [0.8])]


def test_a_run_too_short_to_log_has_no_curves() -> None:
    assert page.loss_charts({"vanilla": LINES["vanilla"][1:2], "epic": []}, BASELINES["meter"].curves) == []
