"""Note in stage.json that a job of a stage has begun, or how it ended: the scripts of --launcher slurm call it."""

from __future__ import annotations

import argparse
from pathlib import Path

from reproduce import state
from vlp.config.schema import ConfigError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The stage's folder, and what is noted."""
    parser.add_argument("folder", type=Path, help="of the stage")
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("--begin", action="store_true", help="the command starts")
    what.add_argument("--status", type=int, help="it ended with this status")


def main(arguments: argparse.Namespace) -> int:
    """Note it; the status that the job is to end with: the command's, or 1 where a file is missing after status 0.

    Raises:
        ConfigError: there is no stage in the folder.
    """
    record = state.read(arguments.folder)
    if record is None:
        raise ConfigError(
            f"{arguments.folder}: holds no {state.FILE}: python -m reproduce run --launcher slurm writes it"
        )
    if arguments.begin:
        state.begin(arguments.folder, record)
        return 0
    record = state.end(arguments.folder, record, arguments.status)
    if "lacks" in record:
        print(f"error: {record['stage']}: left no {record['lacks']} in {arguments.folder}")
        return 1
    return arguments.status
