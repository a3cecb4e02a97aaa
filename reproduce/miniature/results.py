"""The file of a run: what it was, and what was measured of it."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from vlp.config.schema import ConfigError
from vlp.files import atomic_open, read_json

RUNS = "runs"  # folder of the files, below that of the results
CALIBRATION = "calibration.json"
RECALLS = tuple(f"{way}_r{k}" for way in ("tr", "ir") for k in (1, 5, 10))


@dataclass(frozen=True)
class Run:
    """A pre-training run and its scores; percentages are 0 to 100, shares 0 to 1.

    Attributes:
        points: zero-shot recalls after so many steps: ``{"step": 160, "tr_r1": 3.1, …}``; the last at the budget.
        fine_tuned: ``{"task": "nlvr2", "accuracy": 61.2, "chance": 50.0}``.
        curves: by TensorBoard tag ``[[step, value], …]``, means of neighbours where there were too many.
        false_negatives: ``{"step": 160, "share": 0.31, "replaced": 812, …}`` for each point; None without replacements.
        salient_mass: share of the masking distribution on words that only the image determines; None without masking.
        foils: of both heads on captions with a false word, as docs/foils.md has it; None without EPIC.
        flops_per_step: of matrix products and convolutions, forward and backward, in the mean.
        seconds: processor time of "pretraining", "evaluation" and "fine_tuning".
    """

    baseline: str
    variant: str
    seed: int
    steps: int
    config_hash: str
    commit: str
    dirty: bool
    command: Sequence[str]
    settings: Mapping[str, Any]
    points: Sequence[Mapping[str, float]]
    fine_tuned: Mapping[str, Any] | None = None
    curves: Mapping[str, Sequence[Sequence[float]]] = field(default_factory=dict)
    false_negatives: Sequence[Mapping[str, float]] | None = None
    salient_mass: float | None = None
    foils: Mapping[str, Any] | None = None
    flops_per_step: float = 0.0
    seconds: Mapping[str, float] = field(default_factory=dict)
    machine: Mapping[str, str] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """Of its file, without ``.json``."""
        return run_name(self.baseline, self.variant, self.seed)


def run_name(baseline: str, variant: str, seed: int) -> str:
    """Of a run's file and folder."""
    return f"{baseline}_{variant}_seed{seed}"


def read_run(path: Path) -> Run:
    """One file.

    Raises:
        ConfigError: it is no run; names the file, and the key that is wrong.
    """
    try:
        values = read_json(path)
    except ValueError as error:
        raise ConfigError(f"{path}: is no JSON ({error}): remove it, and the run is made again") from None
    known = {each.name: each for each in dataclasses.fields(Run)}
    needed = [n for n, f in known.items() if f.default is dataclasses.MISSING is f.default_factory]
    if not isinstance(values, dict) or (lacking := [name for name in needed if name not in values]):
        what = f"lacks {', '.join(lacking)}" if isinstance(values, dict) else "holds no object"
        raise ConfigError(f"{path}: {what}: remove it, and the run is made again")
    if unknown := [name for name in values if name not in known]:
        raise ConfigError(f"{path}: {unknown[0]} is no field of a run: remove the file, and the run is made again")
    return Run(**values)


def read_runs(folder: Path) -> list[Run]:
    """All runs below the folder of the results, by name.

    Raises:
        ConfigError: a file is no run.
    """
    return [read_run(path) for path in sorted((folder / RUNS).glob("*.json"))]


def write_run(folder: Path, run: Run) -> Path:
    """Write the run's file below the folder of the results, whole or not at all."""
    path = folder / RUNS / f"{run.name}.json"
    write_file(path, run)
    return path


def write_file(path: Path, run: Run) -> None:
    """Write a run, whole or not at all, a line for each field."""
    lines = (f"  {json.dumps(k)}: {json.dumps(v, ensure_ascii=False)}" for k, v in dataclasses.asdict(run).items())
    with atomic_open(path) as handle:
        handle.write(("{\n" + ",\n".join(lines) + "\n}\n").encode())
