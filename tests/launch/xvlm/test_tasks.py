"""The downstream tasks of the demo from its command line: what is trained on scenes scores above chance."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.launch.launcher import ENVIRONMENT, ROOT

TASKS = {"VQA": ["VQA"], "Captioning": ["Captioning_pretrain", "Captioning"]}


def run(output: Path) -> str:
    sizes = ("--pretrain-epochs", "2", "--val-images", "32", "--test-images", "32", "--tasks", *TASKS)
    command = [sys.executable, "-m", "demo.tasks", "--baseline", "xvlm", "--output", str(output), *sizes]
    done = subprocess.run(command, cwd=ROOT, env=ENVIRONMENT, capture_output=True, text=True, timeout=5400)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.slow
def test_questions_and_captions_beat_chance(tmp_path: Path) -> None:
    """And a second call runs nothing again."""
    run(tmp_path)
    results = json.loads((tmp_path / "results.json").read_text())
    assert results["baseline"] == "xvlm"
    scores = {each["metric"]: each for each in results["scores"]}
    assert scores["test_acc"]["value"] > scores["test_acc"]["chance"] + 10, scores
    assert scores["test_CIDEr"]["value"] > scores["test_CIDEr"]["chance"] + 10, scores
    assert list(results["runs"]) == ["Pretrain", *(name for runs in TASKS.values() for name in runs)]
    assert "$ cd xvlm" not in run(tmp_path)
    assert json.loads((tmp_path / "results.json").read_text()) == results
