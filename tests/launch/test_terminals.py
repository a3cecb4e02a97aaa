"""A run whose output goes nowhere, or to a terminal of ASCII, is a run like any other."""

from __future__ import annotations

import shlex
import subprocess
import sys
from pathlib import Path

from tests.launch.launcher import ENVIRONMENT, ROOT, SHARED_CODE, Launcher, Result

ASCII = {"PYTHONIOENCODING": "ascii", "LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}


@SHARED_CODE
def test_ascii_read_to_its_first_line(launcher: Launcher, tmp_path: Path) -> None:
    items = (*launcher.pretraining, *launcher.items("val_check_interval=3"), f"log_dir={tmp_path / 'logs'}")
    line = f"{shlex.join([sys.executable, 'run.py', 'with', *items])} 2>&1 | head -1; exit ${{PIPESTATUS[0]}}"
    done = subprocess.run(
        ["bash", "-c", line],
        cwd=ROOT / launcher.folder,
        env={**ENVIRONMENT, **ASCII},
        stdout=subprocess.PIPE,
        timeout=300,
    )
    run = Result(done.returncode, done.stdout.decode("ascii"), tmp_path / "logs")
    assert run.status == 0 and run.output.count("\n") == 1
    assert run.metrics == launcher.vanilla.metrics
