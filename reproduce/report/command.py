"""Write Tables 1-5 with what was measured: printed, measured, difference, for vanilla, EPIC and the gain."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from reproduce.experiments import Experiments, printed_tables
from reproduce.report.hashes import Hashes
from reproduce.report.html import html
from reproduce.report.latex import latex
from reproduce.report.markdown import markdown
from reproduce.report.pages import Report
from reproduce.report.readings import Expected, Readings
from reproduce.report.tables import tables
from reproduce.running import add_places, experiments_of, places_of
from vlp.files import atomic_open

FORMATS: Mapping[str, tuple[str, Callable[[Report, Path], str]]] = {
    "md": ("report.md", markdown),
    "html": ("report.html", html),
    "latex": ("report.tex", latex),
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The formats, and where the runs are."""
    parser.add_argument("--format", nargs="+", choices=[*FORMATS], default=[*FORMATS], help="default: all")
    parser.add_argument("--measured-only", action="store_true", help="leave out rows that were not run")
    add_places(parser)


def main(arguments: argparse.Namespace) -> int:
    """Write the pages into the output root, and say which results are left out."""
    places = places_of(arguments)
    experiments = experiments_of(arguments.scale, places)
    report = report_of(experiments, printed_tables(), places.root, Hashes(experiments, places))
    report = replace(report, measured_only=arguments.measured_only)
    for name in arguments.format:
        file, page = FORMATS[name]
        path = places.root / file
        with atomic_open(path) as handle:
            handle.write(page(report, places.root).encode())
        print(f"written: {path}")
    for problem in report.problems:
        print(f"warning: not shown: {problem}", file=sys.stderr)
    return 0


def report_of(experiments: Experiments, printed: Mapping[str, Any], root: Path, expected: Expected) -> Report:
    """What was measured below ``root``, beside what ``tables.json`` has."""
    readings = Readings(experiments, root, expected)
    all_of = tuple(tables(experiments, printed, readings))
    return Report(all_of, tuple(printed["notes"]["text"]), tuple(readings.problems))
