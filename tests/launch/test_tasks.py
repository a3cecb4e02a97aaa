"""The downstream tasks of METER's and ViLT's demo from its command line: what is trained on scenes beats chance."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.launch.launcher import ENVIRONMENT, ROOT

TASKS = {"meter": ["VQA", "VE"], "vilt": ["VQA"]}
ABOVE_CHANCE = {"VQA": 10, "VE": 20}  # percent


def run(baseline: str, output: Path) -> str:
    sizes = ("--train-images", "800", "--val-images", "32", "--test-images", "64", "--pretrain-epochs", "2")
    command = [sys.executable, "-m", "demo.tasks", "--baseline", baseline, "--output", str(output), *sizes]
    command += ["--tasks", *TASKS[baseline]]
    done = subprocess.run(command, cwd=ROOT, env=ENVIRONMENT, capture_output=True, text=True, timeout=5400)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.slow
@pytest.mark.parametrize("baseline", TASKS)
def test_tasks_beat_chance(baseline: str, tmp_path: Path) -> None:
    """And a second call runs nothing again."""
    run(baseline, tmp_path)
    results = json.loads((tmp_path / "results.json").read_text())
    assert results["baseline"] == baseline
    scores = {each["task"]: each for each in results["scores"]}
    assert list(scores) == TASKS[baseline]
    for task, score in scores.items():
        assert score["value"] > score["chance"] + ABOVE_CHANCE[task], scores
    assert list(results["runs"]) == ["Pretrain", *(run for task in scores for run in (task, f"{task}_test"))]
    assert f"$ cd {baseline}" not in run(baseline, tmp_path)
    assert json.loads((tmp_path / "results.json").read_text()) == results
