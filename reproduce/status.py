"""What of each row is done, running, failed or not run."""

from __future__ import annotations

import argparse
from collections import Counter
from pathlib import Path

from rich import box
from rich.table import Table

from reproduce import slurm, state
from reproduce.running import add_places, experiments_of, places_of
from vlp.console import stdout_console
from vlp.progress import clock

ORDER = ("done", "running", "queued", "stopped", "failed", "not run")
STYLES = {"done": "green", "running": "cyan", "failed": "red"}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Rows and places."""
    parser.add_argument(
        "rows", nargs="*", metavar="ROW", help="rows whose stages are listed; default: all rows, counted"
    )
    add_places(parser)


def main(arguments: argparse.Namespace) -> int:
    """Print it."""
    places = places_of(arguments)
    experiments = experiments_of(arguments.scale, places)
    known: dict[str, str] = {}
    rows = [experiments.row(name) for name in arguments.rows]
    if rows:
        table = Table("stage", "state", "time", "attempts", "log or job", box=box.SIMPLE_HEAD, pad_edge=False)
        for name in dict.fromkeys(name for row in rows for name in row.stages):
            table.add_row(*stage_line(name, places.folder(name)))
    else:
        table = Table("row", *ORDER, box=box.SIMPLE_HEAD, pad_edge=False)
        for row in experiments.rows.values():
            for name in row.stages:
                known.setdefault(name, stage_state(places.folder(name)))
            counts = Counter(known[name] for name in row.stages)
            table.add_row(row.name, *(f"[{STYLES.get(each, 'default')}]{counts[each] or '–'}[/]" for each in ORDER))
    stdout_console().print(table)
    return 0


def stage_state(folder: Path) -> str:
    """One of ``ORDER``, whatever stage.json says of a run that was killed or of a job that is gone."""
    record = state.read(folder)
    if record is None:
        return "not run"
    noted = record["state"]
    if noted == "done":
        return "done" if state.is_whole(folder, record) else "not run"
    if noted in ("running", "queued", "stopped") and slurm.waiting_job(folder):
        return "running" if noted == "running" else "queued"
    if noted == "running":
        return "running" if state.is_locked(folder) else "stopped"
    return "not run" if noted == "queued" else noted


def stage_line(name: str, folder: Path) -> tuple[str, ...]:
    """Name, state, time, attempts, where to look."""
    found, record = stage_state(folder), state.read(folder) or {}
    spent = clock(record["seconds"]) if record.get("seconds") else ""
    job = slurm.job_of(folder)
    where = f"job {job}" if job and found in ("queued", "running") else str(folder / state.LOG)
    style = STYLES.get(found, "default")
    return name, f"[{style}]{found}[/]", spent, str(record.get("attempts", "")), where if record else ""
