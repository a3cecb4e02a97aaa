"""``python -m benchmarks.step`` measures a GPU: ratios, seconds and memory of every variant."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.baseline import VARIANTS
from tests.gpu.marks import ON_GPU
from tests.gpu.numbers import BUILDERS
from tests.launch.launcher import ENVIRONMENT, ROOT

pytestmark = ON_GPU


@pytest.mark.parametrize("name", BUILDERS)
def test_it_measures_every_variant(name: str, tmp_path: Path) -> None:
    file = tmp_path / "step.json"
    command = [sys.executable, "-m", "benchmarks.step", "--baseline", name, "--batch", "8", "--json", str(file)]
    subprocess.run(command, check=True, cwd=ROOT, env=ENVIRONMENT)
    result = json.loads(file.read_text(encoding="utf-8"))
    assert result["not_measured"] == ""
    for found in ("seconds", "memory", "seconds_per_pair", "peak_gib"):
        assert list(result[found]) == list(VARIANTS) and all(value > 0 for value in result[found].values()), found
    assert result["flops"]["epic"] < result["flops"]["epic_naive"]
    assert result["memory"]["epic"] < result["memory"]["epic_naive"]
