"""The downstream tasks of the demo from its command line: what is trained on scenes scores clearly above chance."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.launch.launcher import ENVIRONMENT, ROOT


def run(output: Path) -> str:
    command = [sys.executable, "-m", "demo.tasks", "--output", str(output), "--tasks", "Retrieval", "VE"]
    done = subprocess.run(command, cwd=ROOT, env=ENVIRONMENT, capture_output=True, text=True, timeout=5400)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.slow
def test_retrieval_and_entailment_beat_chance(tmp_path: Path) -> None:
    run(tmp_path)
    results = json.loads((tmp_path / "results.json").read_text())
    scores = {(each["task"], each["metric"]): each for each in results["scores"]}
    for way in ("txt", "img"):
        recall = scores["Retrieval", f"test_{way}_r10"]
        assert recall["value"] > 3 * recall["chance"], recall
    entailment = scores["VE", "test_acc"]
    assert entailment["value"] > 1.8 * entailment["chance"], entailment
    again = run(tmp_path)
    assert "$ cd albef" not in again and json.loads((tmp_path / "results.json").read_text()) == results
