"""The results.json files that belong to a checkpoint, in its run's folder and in those of its evaluations."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from vlp.checkpoint.errors import WeightsError
from vlp.checkpoint.weights import sha256_of_file
from vlp.files import read_json


class Results(NamedTuple):
    """A results.json and what it holds."""

    path: Path
    content: dict[str, Any]


def results_of(checkpoint: Path, further: Sequence[str | Path] = ()) -> list[Results]:
    """Those that say that ``checkpoint`` was scored: ``further`` ones, and what is found near its run.

    Raises:
        WeightsError: one of ``further`` cannot be read, or is of another checkpoint.
    """
    digest = sha256_of_file(checkpoint)
    given = []
    for path in map(Path, further):
        content = _read(path)
        if content is None:
            raise WeightsError(f"{path}: no results.json of a run or an evaluation")
        if not _is_of(content, checkpoint, digest):
            raise WeightsError(f"{path}: its scores are those of {content.get('checkpoint')}, not of {checkpoint}")
        given.append(Results(path, content))
    seen = {each.path.resolve() for each in given}
    for path in _nearby(run_folder(checkpoint)):
        content = _read(path)
        if path.resolve() not in seen and content is not None and _is_of(content, checkpoint, digest):
            given.append(Results(path, content))
    return given


def run_folder(checkpoint: Path) -> Path:
    """The folder of the run that left a checkpoint."""
    return checkpoint.parent.parent if checkpoint.parent.name == "checkpoints" else checkpoint.parent


def _nearby(run: Path) -> Iterator[Path]:
    yield run / "results.json"
    if run.name.startswith("version_"):  # METER and ViLT: an evaluation is a run of its own below the same log_dir
        yield from sorted(run.parents[1].glob("*/version_*/results.json"))


def _read(path: Path) -> dict[str, Any] | None:
    try:
        content = read_json(path)
    except (OSError, ValueError, RecursionError):
        return None
    is_results = isinstance(content, dict) and isinstance(content.get("metrics"), dict)
    return content if is_results else None


def _is_of(content: dict[str, Any], checkpoint: Path, digest: str) -> bool:
    """By the SHA-256 where it stands there; else by the name, relative to wherever the evaluation was started."""
    if said := content.get("checkpoint_sha256"):
        return bool(said == digest)
    parts = Path(str(content.get("checkpoint") or "?")).parts
    return checkpoint.resolve().parts[-len(parts) :] == tuple(part for part in parts if part != ".")
