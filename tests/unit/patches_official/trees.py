"""A stand-in for an official checkout, its patch, and the command as a user runs it."""

from __future__ import annotations

import io
import shutil
import subprocess
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from typing import NamedTuple

from patches.official.command import main
from patches.official.lines import Insertion, blob
from patches.official.patch_file import FilePatch, OfficialPatch, dumps
from patches.tree import ROOT

CONFIG = b"from sacred import Experiment\n\n\ndef config():\n    seed = 0\n    lr = 1e-4\n    depth = 2\n"
MODULE = b"import torch\n\n\nclass Model:\n    def forward(self, x):\n        y = x + 1\n        return y\n"
FILES = {"meter/config.py": CONFIG, "meter/modules/module.py": MODULE}
COMMIT = "0123456789" * 4
HOOKS = ("", "    def on_save_checkpoint(self, checkpoint):", "        epic_meter.save(self, checkpoint)")


def patch_of(config: bytes = CONFIG, module: bytes = MODULE) -> OfficialPatch:
    """Lines at the start, inside a function, and at the end of the file."""
    into_config = (Insertion(1, ("import epic_meter",)), Insertion(6, ("    epic_meter.keys(locals())",)))
    into_module = (
        Insertion(0, ("import epic_meter",)),
        Insertion(6, ("        y = epic_meter.losses(self, y)", "        del x")),
        Insertion(7, HOOKS),
    )
    return OfficialPatch(
        "EPIC for a stand-in",
        "https://example.org/meter",
        COMMIT,
        (
            FilePatch("meter/config.py", blob(config), into_config),
            FilePatch("meter/modules/module.py", blob(module), into_module),
        ),
    )


def checkout(root: Path, **files: bytes) -> Path:
    """A checkout with the official files, or others given by their stems."""
    for name, data in FILES.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(files.get(path.stem, data))
    return root


def repository(root: Path, patch: OfficialPatch) -> Path:
    """This repository as far as the command reads it, with the stand-in's patch for METER's."""
    shutil.copytree(
        ROOT / "patches", root / "patches", ignore=shutil.ignore_patterns("__pycache__", "*.patch", "*.json")
    )
    (root / "epic_common" / "sub").mkdir(parents=True)
    for name in ("__init__.py", "masking.py", "sub/__init__.py"):
        (root / "epic_common" / name).write_text(f'"""{name}"""\n')
    shutil.copy(ROOT / "epic_common" / "safe_output.py", root / "epic_common")
    shutil.copy(ROOT / "LICENSE", root)
    official = root / "patches" / "official"
    (official / "support").mkdir(exist_ok=True)
    for name in ("epic_support", "epic_meter", "epic_shims"):
        (official / "support" / f"{name}.py").write_text(f'"""{name}"""\n')
    (official / "meter.patch").write_text(dumps(patch))
    return root


class Run(NamedTuple):
    """What a command returned and printed."""

    returncode: int
    stdout: str
    stderr: str


def command(repository: Path, *arguments: str | Path) -> Run:
    """`python -m patches official ...` of that repository."""
    out, err = io.StringIO(), io.StringIO()
    with redirect_stdout(out), redirect_stderr(err):
        code = main([str(argument) for argument in arguments], repository)
    return Run(code, out.getvalue(), err.getvalue())


def contents(root: Path) -> dict[str, bytes]:
    """Every file below the folder but git's."""
    return {
        path.relative_to(root).as_posix(): path.read_bytes()
        for path in sorted(root.rglob("*"))
        if path.is_file() and ".git" not in path.relative_to(root).parts
    }


def git(root: Path, *arguments: str) -> str:
    """Run git there; fails as git fails."""
    identity = ["-c", "user.name=a", "-c", "user.email=a@b", "-c", "core.autocrlf=false"]
    run = subprocess.run(["git", *identity, *arguments], cwd=root, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    return run.stdout
