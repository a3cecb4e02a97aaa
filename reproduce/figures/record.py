"""What a figure shows, as numbers, with what they depend on."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path
from typing import Any

from vlp.checkpoint.weights import sha256_of_file
from vlp.files import write_json
from vlp.versions import package_versions


def file_record(path: Path) -> dict[str, str]:
    """A file and its SHA-256."""
    return {"file": str(path), "sha256": sha256_of_file(path)}


def run_record(baseline: str) -> dict[str, Any]:
    """The command, and the versions it ran with."""
    command = shlex.join(["python", "-m", "reproduce", *sys.argv[1:]])
    return {"baseline": baseline, "command": command, "versions": package_versions()}


def write_record(path: Path, figure: str, baseline: str, **numbers: Any) -> Path:
    """Write ``path``: :func:`run_record`, then the numbers."""
    write_json(path, {"figure": figure, **run_record(baseline), **numbers})
    return path
