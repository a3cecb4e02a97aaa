"""Every row of the tables, every panel of the figures."""

from __future__ import annotations

import argparse

from rich import box
from rich.table import Column, Table

from reproduce.cost import ASSUMED, cost_line
from reproduce.experiments import Experiments, Row, load
from vlp.console import stdout_console


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """None."""


def main(arguments: argparse.Namespace) -> int:
    """Print them."""
    experiments = load()
    table = Table(
        Column("row", no_wrap=True), "model", "cells", "stages", "pre-training", box=box.SIMPLE_HEAD, pad_edge=False
    )
    for row in experiments.rows.values():
        table.add_row(row.name, f"{row.label}, {row.data}, {row.variant}", *row_numbers(row, experiments))
    for figure in experiments.figures.values():
        table.add_row(figure.name, figure.title, "", str(len(experiments.needed(figure.after))))
    console = stdout_console()
    console.print(table)
    console.print(ASSUMED, soft_wrap=True)
    return 0


def row_numbers(row: Row, experiments: Experiments) -> tuple[str, str, str]:
    """Cells, stages, and what its pre-training takes, a teacher's included."""
    stages = [experiments.stages[name] for name in row.stages]
    return str(len(row.cells)), str(len(stages)), cost_line(stages)
