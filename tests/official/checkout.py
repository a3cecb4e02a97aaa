"""A checkout of official code at hand: copies of it, and its launcher in its own environment."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from patches.tree import ROOT
from tests.official.launches import LAUNCHES, Launch, Run

LARGE = 5 << 20  # bytes, from which on a copy has a link in the file's place


def copy(checkout: Path, target: Path) -> Path:
    """The checkout without its git history."""

    def copy_file(source: str, place: str) -> str:
        if os.path.getsize(source) > LARGE:
            os.symlink(Path(source).resolve(), place)
            return place
        return shutil.copy2(source, place)

    shutil.copytree(checkout, target, copy_function=copy_file, ignore=shutil.ignore_patterns(".git", "__pycache__"))
    return target


def apply(baseline: str, checkout: Path, *flags: str) -> None:
    """By the command, as a user does."""
    command = [sys.executable, "-m", "patches", "official", "apply", baseline, str(checkout), *flags]
    subprocess.run(command, cwd=ROOT, check=True)


@dataclass
class Official:
    """A code base, a plain and a patched copy of its checkout, and how its launcher is started.

    Args:
        folder: where everything is written.
        python: of the checkout's environment.
        environment: variables for the launcher.
        patch: (baseline, copy) puts EPIC in.
    """

    baseline: str
    checkout: Path
    folder: Path
    python: str = sys.executable
    environment: Mapping[str, str] = field(default_factory=dict)
    patch: Callable[[str, Path], object] = apply

    def __post_init__(self) -> None:
        self.launch: Launch = LAUNCHES[self.baseline]
        self.data = self.folder / "data"
        self.launch.prepare(self.data)
        self.plain = copy(self.checkout, self.folder / "plain")
        self.patched = copy(self.checkout, self.folder / "patched")
        self.patch(self.baseline, self.patched)

    @cached_property
    def plain_run(self) -> Path:
        """The output of a run of the unpatched copy."""
        return self.run("plain", self.plain)

    @property
    def teacher(self) -> Path:
        """A model pre-trained without EPIC."""
        return self.newest(self.plain_run, self.launch.weights)

    def run(self, name: str, checkout: Path, **given: Path) -> Path:
        """Pre-train a few steps; the output's folder.

        Raises:
            AssertionError: the launcher failed; with the end of what it printed.
        """
        output = self.output(name)
        self.start(self.launch.command(Run(checkout, self.data, output, **given)), checkout)
        return output

    def output(self, name: str) -> Path:
        """A new folder for what a run writes."""
        folder = self.folder / "runs" / name
        folder.mkdir(parents=True)
        return folder

    def start(self, command: list[str], checkout: Path) -> None:
        """`python <command>` in a checkout's root, without this repository on its path."""
        own = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
        run = subprocess.run(
            [self.python, *command], cwd=checkout, env=own | dict(self.environment), capture_output=True, text=True
        )
        assert run.returncode == 0, f"{' '.join(command)}\n{run.stdout[-2000:]}\n{run.stderr[-4000:]}"

    def weights(self, output: Path) -> dict[str, Tensor]:
        """Those that the run saved last."""
        saved: dict[str, Any] = torch.load(self.newest(output, self.launch.weights), map_location="cpu")
        state: dict[str, Tensor] = saved[self.launch.key]
        return state

    @staticmethod
    def newest(output: Path, pattern: str) -> Path:
        """The newest of the files below ``output`` that fit."""
        found = sorted(output.glob(pattern), key=lambda path: path.stat().st_mtime)
        assert found, f"the launcher saved no {pattern} in {output}"
        return found[-1]


def same(one: Mapping[str, Tensor], other: Mapping[str, Tensor]) -> bool:
    """To the bit."""
    return one.keys() == other.keys() and all(torch.equal(value, other[name]) for name, value in one.items())
