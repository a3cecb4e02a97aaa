"""The demo from its command line, at a size that only shows that every stage runs."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from demo.baselines import BASELINES
from tests.launch.launcher import ENVIRONMENT, ROOT

SIZES = {
    **{"train-images": 40, "val-images": 8, "test-images": 8, "corpus-lines": 200, "lm-steps": 3},
    **{"steps": 11, "batch": 4},
}


def run_demo(baseline: str, output: Path, **changes: int) -> subprocess.CompletedProcess[str]:
    flags = [word for name, value in {**SIZES, **changes}.items() for word in (f"--{name}", str(value))]
    command = [sys.executable, "-m", "demo", "--baseline", baseline, "--output", str(output), *flags]
    return subprocess.run(command, cwd=ROOT, env=ENVIRONMENT, capture_output=True, text=True, timeout=1200)


@pytest.mark.slow
@pytest.mark.parametrize("baseline", BASELINES)
def test_the_demo_compares_two_runs_and_goes_on_where_it_stopped(baseline: str, tmp_path: Path) -> None:
    first = run_demo(baseline, tmp_path)
    assert first.returncode == 0, first.stdout + first.stderr
    results = json.loads((tmp_path / "results.json").read_text())
    scores = {score["name"]: score for score in results["scores"]}
    assert set(scores) == {
        *(f"{way} R@{k}" for way in ("TR", "IR") for k in (1, 5, 10)),
        *("masked-token accuracy", "ITC AUROC"),
    }
    assert scores["ITC AUROC"]["vanilla"] is None and 0 <= scores["ITC AUROC"]["epic"] <= 1
    assert scores["IR R@1"]["chance"] == pytest.approx(100 / 8)
    assert len(results["commands"]) == 6 and all(command in first.stdout for command in results["commands"])
    assert all(command.startswith(f"cd {baseline} && ") for command in results["commands"])
    page = (tmp_path / "report.html").read_text()
    assert "Grad-CAM" in page and "https://" not in page
    assert f"<title>{BASELINES[baseline].description.title} without and with EPIC</title>" in page
    for name in ("vanilla", "epic"):
        assert list((tmp_path / name).rglob("events.out.tfevents.*"))

    (tmp_path / "epic" / "evaluated.json").unlink()
    second = run_demo(baseline, tmp_path)
    assert second.returncode == 0, second.stdout + second.stderr
    assert second.stdout.count("already there") == 6
    assert json.loads((tmp_path / "results.json").read_text())["scores"] == results["scores"]

    other = run_demo(baseline, tmp_path, steps=12)
    assert other.returncode != 0 and "steps was 11, is 12" in other.stderr
