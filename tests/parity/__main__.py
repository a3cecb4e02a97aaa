"""Replay parity fixtures through the project's public classes.

    python -m tests.parity [DIR ...]

Every `<name>.json` beside a `<name>.npz` in each DIR (recursively; default tests/parity/fixtures) is replayed. Per
fixture and mode one line: arrays compared, worst error over tolerance and where, pass or fail; and one that names the
pieces which a replay asks for and the fixture lacks, with the arrays that are not compared for want of them. Exit
status: 1 on a failure, 2 if a fixture was not replayed because its baseline or kind is not built yet or because it
lacks what all its arrays need, 0 if all passed.
"""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

from tests.parity.fixture import FIXTURES
from tests.parity.runner import Outcome, discover, last_line, modes, read, run
from vlp.safe_output import make_output_safe

SHOWN = 20  # failures printed per fixture and mode
WORDS = {"passed": "PASS", "failed": "FAIL", "not replayed": "NOT REPLAYED"}


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.parity", description=__doc__.splitlines()[0])
    parser.add_argument("folders", nargs="*", type=Path, metavar="DIR", default=[FIXTURES])
    folders: list[Path] = parser.parse_args(arguments).folders
    try:
        paths = discover(folders)
    except FileNotFoundError as error:
        print(f"python -m tests.parity: {error}", file=sys.stderr)
        return 1
    counts = dict.fromkeys(WORDS, 0)
    for path in paths:
        for status in _replay(path):
            counts[status] += 1
    print(", ".join(f"{count} {status}" for status, count in counts.items()))
    return 1 if counts["failed"] else 2 if counts["not replayed"] else 0


def _replay(path: Path) -> list[str]:
    """Replay one fixture in each of its modes, print a line for each, and return their statuses."""
    label = os.path.relpath(path.with_suffix(""))
    try:
        fixture, replay = read(path)
    except Exception as error:  # a broken fixture or replay is a failure of its own, and the others go on
        print(f"FAIL          {label}: cannot be read: {last_line(error)}", flush=True)
        return ["failed"]
    if replay is None:
        unsaid = [name for name in ("baseline", "replay") if name in fixture.lacks]
        kind = f"no replay for {fixture.baseline} {fixture.replay} yet"
        print(f"NOT REPLAYED  {label}: {'the fixture lacks ' + ', '.join(unsaid) if unsaid else kind}", flush=True)
        return ["not replayed"]
    statuses = []
    for mode in modes(fixture, replay):
        outcome = run(fixture, replay, mode)
        print(_line(label, mode, outcome), flush=True)
        statuses.append(outcome.status)
    return statuses


def _line(label: str, mode: str, outcome: Outcome) -> str:
    worst = "nothing compared"
    if outcome.worst is not None:
        worst = f"{outcome.compared} arrays, worst {outcome.worst.ratio:.3g} of tolerance ({outcome.worst.name})"
    lines = [f"{WORDS[outcome.status]:<14}{label} [{mode}]: {worst}, {outcome.seconds:.1f} s"]
    lines += [f"              {failure}" for failure in outcome.failures[:SHOWN]]
    if outcome.lacks:
        lacks, left_out = (", ".join(dict.fromkeys(names)) or "nothing" for names in (outcome.lacks, outcome.left_out))
        lines.append(f"              the fixture lacks {lacks}; stored, but not compared: {left_out}")
    if len(outcome.failures) > SHOWN:
        lines.append(f"              and {len(outcome.failures) - SHOWN} more")
    return "\n".join(lines)


if __name__ == "__main__":
    make_output_safe()
    sys.exit(main())
