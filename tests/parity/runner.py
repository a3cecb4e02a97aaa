"""Find fixtures and replay them; what `python -m tests.parity` prints and what pytest checks."""

from __future__ import annotations

import json
import time
import traceback
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from tests.parity.comparison import Comparison
from tests.parity.fixture import PLAIN, Fixture, Lacking
from tests.parity.replays import Replay, find


@dataclass
class Outcome:
    """One fixture replayed in one mode. It passes if it compared at least one array and has no failure; where there
    was nothing to compare, and nothing failed, it is not replayed.

    ``lacks`` names the pieces that the replay asked for in vain, ``left_out`` the stored arrays that need them.
    """

    compared: int = 0
    worst: Comparison | None = None
    failures: list[str] = field(default_factory=list)
    lacks: list[str] = field(default_factory=list)
    left_out: list[str] = field(default_factory=list)
    seconds: float = 0.0

    @property
    def status(self) -> str:
        return "failed" if self.failures else "passed" if self.compared else "not replayed"

    @property
    def passed(self) -> bool:
        return self.status == "passed"

    def add(self, comparison: Comparison) -> None:
        self.compared += 1
        if self.worst is None or comparison.ratio > self.worst.ratio:
            self.worst = comparison
        if not comparison.passed:
            self.failures.append(f"{comparison.name}: {comparison.ratio:.3g} x its tolerance, {comparison.detail}")


def discover(folders: Iterable[Path]) -> list[Path]:
    """The JSON files of all fixtures in `folders` and below, sorted within each folder.

    Raises:
        FileNotFoundError: a folder does not exist, or holds no fixture.
    """
    found: list[Path] = []
    for folder in folders:
        if not folder.is_dir():
            raise FileNotFoundError(f"{folder} is not a folder")
        here = [path for path in sorted(folder.rglob("*.json")) if _is_fixture(path)]
        if not here:
            raise FileNotFoundError(f"{folder} holds no fixture (<name>.json beside <name>.npz)")
        found += [path for path in here if path not in found]
    return found


def _is_fixture(path: Path) -> bool:
    """Whether a JSON file describes an npz: it lies beside it, or has gone missing."""
    if path.with_suffix(".npz").is_file():
        return True
    try:
        meta = json.loads(path.read_text(encoding="utf-8"))
    except ValueError:
        return False
    return isinstance(meta, dict) and {"baseline", "replay", "arrays"} <= meta.keys()


def read(path: Path) -> tuple[Fixture, Replay | None]:
    """A fixture and its replay (None: not built yet)."""
    fixture = Fixture(path)
    return fixture, find(fixture.baseline, fixture.replay)


def modes(fixture: Fixture, replay: Replay) -> list[str]:
    """The modes to run a fixture in: those of its replay, less a training path that has nothing to compare."""
    return [mode for mode in replay.modes if mode == PLAIN or fixture.required(mode)]


def run(fixture: Fixture, replay: Replay, mode: str) -> Outcome:
    """Replay a fixture in one mode; an exception inside is a failure of this fixture, not of the command."""
    outcome, start = Outcome(lacks=[*fixture.lacks]), time.perf_counter()
    required = set(fixture.required(mode))
    missing = dict.fromkeys(fixture.required(mode))
    try:
        for name, computed in replay.run(fixture, mode):
            try:
                if isinstance(computed, Lacking):
                    raise computed
                if name in required:
                    outcome.add(fixture.compare(name, computed() if callable(computed) else computed))
                    missing.pop(name, None)
            except Lacking as absent:
                outcome.lacks.append(str(absent.args[0]))
    except Lacking as absent:
        outcome.lacks.append(str(absent.args[0]))
    except Exception as error:  # whatever a replay raises is its fixture's failure, and the others go on
        outcome.failures.append(last_line(error))
    if outcome.lacks:
        outcome.left_out = list(missing)
    else:
        outcome.failures += [f"{name}: not produced by the replay" for name in missing]
    outcome.seconds = time.perf_counter() - start
    return outcome


def last_line(error: Exception) -> str:
    """An exception as the last line of its traceback, with the place where it was raised."""
    frame = traceback.extract_tb(error.__traceback__)[-1]
    text = traceback.format_exception_only(error)[-1].strip()
    return f"{text} ({Path(frame.filename).name}:{frame.lineno})"
