"""Measured cells: what the stages of an output root have left in their ``results.json``."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from reproduce import state
from reproduce.experiments import Cell, Experiments, Stage
from vlp.files import read_json

RESULTS = "results.json"
# VQAv2's test answers have no other score than that of the evaluation server: {"vqa_test_dev": 77.7}, in per cent.
FROM_SERVER, SERVER_SPLITS = "server_scores.json", ("test-dev", "test-std")
SERVER = "score that was written down as that of the evaluation server"
SPLITS = {"dev": "val"}  # what results.json calls a split that a column names
PAPER = "paper"  # the scale of a run that is not small


@dataclass(frozen=True)
class Source:
    """A results file.

    Attributes:
        number: its footnote.
        sha256: of the checkpoint that was scored.
        protocol: what its metrics are.
        scale: what it was measured on; empty: the paper's data.
    """

    number: int
    stage: str
    path: Path
    checkpoint: str
    sha256: str
    protocol: str
    scale: str


class Reading(NamedTuple):
    """A measured cell, in per cent."""

    value: float
    source: Source


class Unfit(ValueError):
    """A file that cannot stand for a cell: the message names it and what is wrong."""


class _File(NamedTuple):
    source: Source
    scores: Mapping[str, Any]  # by split, then by column


Expected = Callable[[Stage, Mapping[str, Any]], str]  # the config hash that a stage with this stage.json has now


class Readings:
    """The cells that were measured below ``root``.

    Attributes:
        problems: a line for each file below ``root`` that is left out, with the reason.
    """

    def __init__(self, experiments: Experiments, root: Path, expected: Expected) -> None:
        self.problems: list[str] = []
        self._experiments, self._root, self._expected = experiments, root, expected
        self._files: dict[Path, _File | None] = {}

    def __call__(self, cell: Cell) -> Reading | None:
        """None: it was not run, or its file is among the problems."""
        stage = self._experiments.stage(cell.stage)
        name = FROM_SERVER if cell.split in SERVER_SPLITS else RESULTS
        folder = self._root / stage.name
        path = folder / FROM_SERVER if name == FROM_SERVER else state.results_file(folder)
        file = self._file(path, stage) if path is not None and path.is_file() else None
        if file is None:
            return None
        try:
            value = file.scores[cell.column] if name == FROM_SERVER else _of_split(file.scores, cell)
            return Reading(_percent(value, cell.column), file.source)
        except Unfit as error:
            self._leave_out(file.source.path, error)
        except KeyError:
            if name == RESULTS:  # of the server one score may come before the other
                lacks = f"lacks columns of {cell.split} that its stage is to measure; it holds {_held(file)}"
                self._leave_out(file.source.path, Unfit(lacks))
        return None

    def _file(self, path: Path, stage: Stage) -> _File | None:
        if path not in self._files:
            try:
                self._files[path] = self._read(path, stage)
            except Unfit as error:
                self._files[path] = None
                self._leave_out(path, error)
        return self._files[path]

    def _read(self, path: Path, stage: Stage) -> _File:
        record = _object(self._root / stage.name / state.FILE)
        if record.get("config_hash") != self._expected(stage, record):
            raise Unfit(f"was made by another command than the stage has now (config_hash of its {state.FILE})")
        if record.get("state") != "done":
            raise Unfit(f"its stage is {record.get('state')}, by its {state.FILE}: python -m reproduce status")
        results = _object(path)
        scores: Mapping[str, Any] = results
        if path.name == RESULTS:
            if results.get("baseline") != stage.baseline:
                raise Unfit(f"is of baseline {results.get('baseline')!r}, the stage is of {stage.baseline}")
            scores = results.get("paper", {})
            if not isinstance(scores, dict) or not all(isinstance(each, dict) for each in scores.values()):
                raise Unfit('expected columns by split under "paper"')
        scale = str(record.get("scale") or "")
        of_stage = state.results_file(self._root / stage.name)
        of_run = _object(of_stage) if of_stage else {}
        number = 1 + sum(file is not None for file in self._files.values())
        source = Source(
            number=number,
            stage=stage.name,
            path=path,
            checkpoint=str(of_run.get("checkpoint") or ""),
            sha256=str(of_run.get("checkpoint_sha256") or ""),
            protocol=_protocol(results) or ("" if path.name == RESULTS else SERVER),
            scale="" if scale == PAPER else scale,
        )
        return _File(source, scores)

    def _leave_out(self, path: Path, error: Unfit) -> None:
        line = f"{path.relative_to(self._root)}: {error}"
        if line not in self.problems:
            self.problems.append(line)


def _object(path: Path) -> dict[str, Any]:
    try:
        content = read_json(path)
    except FileNotFoundError:
        raise Unfit(f"its stage has no {path.name}: python -m reproduce run writes one") from None
    except (OSError, ValueError, RecursionError) as error:
        raise Unfit(f"{path.name} is no JSON ({' '.join(str(error).split())})") from None
    if not isinstance(content, dict):
        raise Unfit(f"{path.name} holds no keys")
    return content


def _of_split(scores: Mapping[str, Any], cell: Cell) -> Any:
    split = SPLITS.get(cell.split, cell.split)
    return scores[split][cell.column]


def _percent(value: Any, column: str) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= 100:  # NaN is neither
        raise Unfit(f"{column} is {value!r}, no number from 0 to 100")
    return float(value)


def _held(file: _File) -> str:
    held = [f"{next(iter(each))}, … of {split}" for split, each in file.scores.items() if each]
    return "; ".join(held) or "none of the paper's columns"


def _protocol(results: Mapping[str, Any]) -> str:
    """What results.json says of its metrics; of zero-shot scores, also of which model they are."""
    paper = results.get("paper")
    columns = [column for each in paper.values() for column in each] if isinstance(paper, dict) else []
    zero_shot = results.get("zero_shot_protocol") if any("_zs_" in column for column in columns) else None
    parts = [results.get("protocol"), f"zero-shot protocol {zero_shot}" if zero_shot else None]
    return "; ".join(str(part) for part in parts if part)
