"""What only reads the configuration starts at once: neither torch nor Lightning is imported for it."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
HEAVY = {"torch", "torchvision", "lightning", "transformers", "timm", "pyarrow", "tensorboard", "matplotlib"}
# Runs a launcher, then prints what it has imported.
CODE = """
import json, runpy, sys
sys.argv = json.loads(sys.argv[1])
try:
    runpy.run_path(sys.argv[0], run_name="__main__")
except SystemExit as end:
    status = end.code
else:
    status = 0
print(json.dumps([str(status), sorted(sys.modules)]), file=sys.stderr)
"""
LINES = {
    "print_config": ("0", ""),
    "with imge_size=3": ("2", "did you mean 'image_size'"),
    "with image_size=0 data_root=x per_gpu_batchsize=1": ("error: image_size=0", ""),
}


@pytest.mark.parametrize("line", LINES)
@pytest.mark.parametrize(
    "script",
    [
        "meter/run.py",
        "meter/epic_saliency_cache.py",
        "meter/azure_distributed_run.py",
        "vilt/run.py",
        "tests/fifth/run.py",
    ],
)
def test_reading_the_configuration_imports_nothing_heavy(script: str, line: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", CODE, json.dumps([Path(script).name, *line.split()])],
        cwd=(ROOT / script).parent,
        env={"PYTHONPATH": str(ROOT), "PATH": ""},
        capture_output=True,
        text=True,
        timeout=60,
    )
    *before, last = done.stderr.strip().splitlines()
    status, modules = json.loads(last)
    assert status.startswith(LINES[line][0]), done.stdout + done.stderr
    assert LINES[line][1] in "".join(before)
    assert "sacred" in modules and not HEAVY & set(modules)
