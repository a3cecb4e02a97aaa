"""Run what rows need and is not there yet: data checks, vanilla pre-training, EPIC, fine-tuning, evaluation."""

from __future__ import annotations

import argparse
import os
import shlex
from collections.abc import Sequence
from pathlib import Path

from reproduce import local, slurm
from reproduce.experiments import REPOSITORY, Experiments, Places, load
from reproduce.pipeline import Planned, notices, plan
from vlp.arguments import whole

PAPER = "paper"
OUTPUTS = {PAPER: "reproduce", "scenes": "reproduce_scenes", "smoke": "reproduce_smoke"}  # below runs/, by scale


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Rows, launcher, machines, places."""
    parser.add_argument(
        "rows", nargs="+", metavar="ROW", help="such as table1/meter-4m-epic; a figure, or a single stage"
    )
    parser.add_argument("--dry-run", action="store_true", help="print the commands, and for SLURM its scripts")
    parser.add_argument("--launcher", choices=("local", "slurm"), default="local", help="default local: this machine")
    parser.add_argument(
        "--nodes", type=whole(1), metavar="N", help="machines of pre-training; default: the official ones"
    )
    parser.add_argument("--gpus", type=whole(1), metavar="G", help="GPUs of each machine; default: the official 8")
    add_places(parser)


def add_places(parser: argparse.ArgumentParser) -> None:
    """Where data and results are."""
    data = Path(os.environ.get("EPIC_DATA") or REPOSITORY / "data")
    parser.add_argument(
        "--data", type=Path, default=data, help=f"folder of arrow/ and raw/; default $EPIC_DATA or {data}"
    )
    parser.add_argument("--output", type=Path, help="default runs/reproduce, or runs/reproduce_SCALE")
    parser.add_argument(
        "--scale",
        choices=[*OUTPUTS],
        default=PAPER,
        help="scenes: CPU-sized models on drawn data; smoke: least sizes",
    )


def places_of(arguments: argparse.Namespace) -> Places:
    """The folders of a command line, absolute."""
    root = arguments.output or REPOSITORY / "runs" / OUTPUTS[arguments.scale]
    return Places(arguments.data.resolve(), root.resolve())


def stages_of(experiments: Experiments, names: Sequence[str]) -> list[str]:
    """The stages of rows and of figures, and stages that are named themselves."""
    found: list[str] = []
    for name in names:
        if name in experiments.figures:
            found += experiments.figures[name].after
        else:
            found += [name] if name in experiments.stages else experiments.row(name).stages
    return found


def main(arguments: argparse.Namespace) -> int:
    """Plan, and run or print."""
    places = places_of(arguments)
    prepare_data(arguments.scale, places, arguments.rows)
    experiments = experiments_of(arguments.scale, places)
    planned = plan(experiments, stages_of(experiments, arguments.rows), places, arguments.gpus, arguments.nodes)
    for line in notices(planned):
        print(line)
    if arguments.launcher == "slurm":
        status = slurm.run(planned, arguments.scale, arguments.dry_run)
    elif arguments.dry_run:
        print_plan(planned)
        status = 0
    else:
        status = local.run(planned, arguments.scale)
    for name in arguments.rows if status == 0 else ():
        if figure := experiments.figures.get(name):
            print(f"{name} is then drawn by: {shlex.join(experiments.figure_command(figure, places))}")
    return status


def experiments_of(scale: str, places: Places) -> Experiments:
    """Those of a scale; small ones are those of the data that was prepared in the output root."""
    experiments = load()
    if scale == PAPER:
        return experiments
    from reproduce.scenes import at_scale  # not above: it needs torch

    return at_scale(experiments, scale, places.root)


def prepare_data(scale: str, places: Places, rows: Sequence[str]) -> None:
    """Of a small scale: what these rows, or stages, read."""
    if scale == PAPER:
        return
    from reproduce.scenes_data import prepare  # not above: it needs torch

    experiments = load()
    for name in dict.fromkeys(experiments.stage(stage).baseline for stage in stages_of(experiments, rows)):
        if name:
            prepare(name, scale, places.root)


def print_plan(planned: Sequence[Planned]) -> None:
    """The commands of what is not complete."""
    for number, each in enumerate(planned, start=1):
        machines = f", {each.nodes} x {each.gpus} GPUs" if each.gpus else ""
        print(f"[{number}/{len(planned)}] {each.stage.name} ({each.stage.kind}{machines})")
        print("      done before" if each.complete else f"      $ {each.shown}")
