"""``python -m benchmarks.step`` on a GPU: what it measures of every variant, and that memory is what a CPU's was."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from benchmarks.cost import MEASURED
from benchmarks.step import BASELINES
from tests.gpu.marks import ON_GPU
from tests.launch.launcher import ENVIRONMENT, ROOT

pytestmark = ON_GPU
# What a CPU does not need: workspaces of cuBLAS and cuDNN, and blocks of the allocator that are not filled.
SHARE, GIB = 1.1, 0.5
NAMES = ("meter", "vilt", "albef", "xvlm")


def measured(name: str, folder: Path, *arguments: str) -> dict[str, Any]:
    """What the benchmark writes of a baseline's official size."""
    file = folder / "step.json"
    command = [sys.executable, "-m", "benchmarks.step", "--baseline", name, *arguments, "--json", str(file)]
    subprocess.run(command, check=True, cwd=ROOT, env=ENVIRONMENT)
    return json.loads(file.read_text(encoding="utf-8"))


@pytest.mark.parametrize("name", NAMES)
def test_it_measures_every_variant(name: str, tmp_path: Path) -> None:
    result = measured(name, tmp_path, "--batch", "8")
    assert result["not_measured"] == ""
    for found in ("seconds", "memory", "seconds_per_pair", "peak_gib", "tflop_per_second"):
        assert list(result[found]) == list(BASELINES[name].variants), found
        assert all(value > 0 for value in result[found].values()), found
    assert all(share is None or 0 < share < 1 for share in result["share_of_peak"].values())
    assert result["memory"]["epic"] < result["memory"]["epic_naive"]


@pytest.mark.parametrize("name", NAMES)
def test_no_variant_needs_more_memory_than_on_a_cpu(name: str, tmp_path: Path) -> None:
    on_cpu = json.loads((MEASURED / f"{name}_official.json").read_text(encoding="utf-8"))
    result = measured(name, tmp_path, "--batch", str(len(on_cpu["settings"]["timed_tokens"])))
    bounds = {variant: SHARE * peak + GIB for variant, peak in on_cpu["peak_gib"].items()}
    above = {variant: (peak, bounds[variant]) for variant, peak in result["peak_gib"].items() if peak > bounds[variant]}
    assert not above
