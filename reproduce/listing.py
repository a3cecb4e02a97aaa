"""Every row of the tables, every panel of the figures."""

from __future__ import annotations

import argparse

from rich import box
from rich.console import Console
from rich.table import Table

from reproduce.experiments import load


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """None."""


def main(arguments: argparse.Namespace) -> int:
    """Print them."""
    experiments = load()
    table = Table("row", "model", "cells", "stages", box=box.SIMPLE_HEAD, pad_edge=False)
    for row in experiments.rows.values():
        table.add_row(row.name, f"{row.label}, {row.data}, {row.variant}", str(len(row.cells)), str(len(row.stages)))
    for figure in experiments.figures.values():
        table.add_row(figure.name, figure.title, "", str(len(experiments.needed(figure.after))))
    Console().print(table)
    return 0
