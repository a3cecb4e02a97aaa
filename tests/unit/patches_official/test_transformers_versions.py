"""epic_common in the environments that official checkouts have: old transformers, an old torch and Python, no rich."""

from __future__ import annotations

import os
import subprocess
import sys
import venv
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[3]
# With the tokenizers and the hub client that each was released for; "" = the newest that pip finds.
RELEASES = {
    "4.30.2": ("tokenizers==0.13.3", "huggingface_hub==0.16.4"),
    "4.36.2": ("tokenizers==0.15.2", "huggingface_hub==0.20.3"),
    "4.46.3": ("tokenizers==0.20.3", "huggingface_hub==0.26.5"),
    "": (),
}
OWN_TESTS = ("objective", "generator", "language_model", "teacher", "masking", "saliency", "metrics", "consistency")
CHECK = """
import sys, transformers
sys.modules["rich"] = None  # an import of it fails
import epic_common.checkout
print(transformers.__version__)
"""


@pytest.mark.slow
@pytest.mark.parametrize("release", RELEASES, ids=lambda release: release or "newest")
def test_the_method_runs_with_old_and_new_transformers(release: str, tmp_path: Path) -> None:
    """Its own tests, every variant's step among them; torch and pytest are those of this environment."""
    venv.create(tmp_path / "venv", with_pip=True)
    fresh = tmp_path / "venv" / "bin" / "python"
    site = tmp_path / "site"
    wanted = [f"transformers=={release}" if release else "transformers", *RELEASES[release]]
    dependencies = ["--no-deps"] if release else []
    install = [fresh, "-m", "pip", "install", "-q", "--target", site, *dependencies, *wanted]
    subprocess.run([str(part) for part in install], check=True)
    path = os.pathsep.join([str(site), str(ROOT)])
    environment = {**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
    options: dict[str, Any] = {"cwd": ROOT, "env": environment, "check": True}
    found = subprocess.run([sys.executable, "-c", CHECK], **options, capture_output=True, text=True)
    assert found.stdout.strip() == release or not release
    files = [f"tests/unit/epic/test_{name}.py" for name in OWN_TESTS]
    subprocess.run([sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", *files], **options)


@pytest.mark.slow
def test_the_method_and_the_support_files_run_with_an_old_python() -> None:
    """EPIC_OLD_PYTHON: the Python of an environment with torch 1.13.1 and what this message names.

    Without the tests under autocast: that torch's own LayerNorm knows no bfloat16 on a CPU.
    """
    old = os.environ.get("EPIC_OLD_PYTHON")
    if not old:
        pytest.skip(
            "EPIC_OLD_PYTHON is not set: python3.10 of a venv with torch==1.13.1 transformers==4.30.2 numpy<2 "
            "scipy<1.12 pydantic>=2.9 pytest hypothesis"
        )
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
    files = [f"tests/unit/epic/test_{name}.py" for name in OWN_TESTS]
    files += [f"tests/unit/patches_official/test_{name}.py" for name in ("old_libraries", "python_3_10")]
    command = [old, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", "-m", "slow or not slow"]
    command += ["-k", "not under_autocast", *files]
    subprocess.run(command, cwd=ROOT, env=environment, check=True)
