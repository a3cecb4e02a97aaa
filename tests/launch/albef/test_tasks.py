"""The downstream tasks of the demo from its command line: what is trained on scenes scores clearly above chance."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.launch.launcher import ENVIRONMENT, ROOT


def run(output: Path) -> str:
    sizes = ("--pretrain-epochs", "4", "--tasks", "VE", "VQA")
    command = [sys.executable, "-m", "demo.tasks", "--output", str(output), *sizes]
    done = subprocess.run(command, cwd=ROOT, env=ENVIRONMENT, capture_output=True, text=True, timeout=5400)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.slow
def test_entailment_and_questions_beat_chance(tmp_path: Path) -> None:
    """And a second call runs nothing again."""
    run(tmp_path)
    results = json.loads((tmp_path / "results.json").read_text())
    scores = {each["task"]: each for each in results["scores"]}
    assert scores["VE"]["value"] > scores["VE"]["chance"] + 25, scores
    assert scores["VQA"]["value"] > scores["VQA"]["chance"] + 15, scores
    assert set(results["runs"]) == {"Pretrain", "VE", "VQA"}
    assert "$ cd albef" not in run(tmp_path)
    assert json.loads((tmp_path / "results.json").read_text()) == results
