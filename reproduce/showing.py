"""A row: its stages in order, their commands, and the printed numbers."""

from __future__ import annotations

import argparse
import shlex

from reproduce.cost import ASSUMED, cost_line, stage_cost
from reproduce.experiments import load


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The row."""
    parser.add_argument("row", help="such as table1/meter-4m-epic or figure4; python -m reproduce list has them all")


def main(arguments: argparse.Namespace) -> int:
    """Print it."""
    experiments = load()
    if figure := experiments.figures.get(arguments.row):
        print(f"{figure.name}: {figure.title}\n  {shlex.join(figure.command)}\nneeds: {', '.join(figure.after)}")
        return 0
    row = experiments.row(arguments.row)
    print(f"{row.name}: {row.label}, {row.data}, {row.variant}")
    for name in row.stages:
        stage = experiments.stages[name]
        machines = f"{stage.nodes} x {stage.gpus} GPUs" if stage.gpus else "no GPU"
        cost = stage_cost(stage)
        print(f"\n{name}  ({stage.kind}, {machines}{f', about {cost.hours:,.0f} h' if cost else ''})")
        print(f"  cd {stage.baseline or '.'} && {shlex.join(stage.command)}")
    print(f"\npre-training: {cost_line(experiments.stages[name] for name in row.stages)}\n{ASSUMED}\n\nprinted:")
    for cell in row.cells:
        print(f"  {cell.column} {cell.printed} ({cell.split}): {cell.stage}")
    return 0
