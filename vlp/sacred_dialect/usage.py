"""Sacred's own grammar around the items of a command line: its commands and options, refused before sacred fails."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from docopt import docopt
from sacred import Experiment

from vlp.config.nearest import did_you_mean

PACKAGES = {"--mongo_db": "pymongo", "--tiny_db": "tinydb", "--sql": "sqlalchemy"}  # of sacred's observers
LEVELS = ("DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL")
NUMBERS = ("--beat-interval", "--priority")


class CommandLineError(SystemExit):
    """A command line that cannot be read, or an unknown name with the nearest known one. Exits with status 2."""

    def __init__(self, message: str) -> None:
        super().__init__(2)
        self.message = message


def parsed(experiment: Experiment, argv: Sequence[str]) -> dict[str, Any]:
    """A command line's parts by sacred's names: COMMAND, UPDATE (the items behind ``with``) and each option.

    Raises:
        CommandLineError: not of sacred's grammar.
    """
    _, _, usage = experiment.get_usage()
    try:
        return docopt(usage, list(argv[1:]), False)
    except SystemExit:
        said = " ".join(argv[1:])[:200]
        raise CommandLineError(
            f"{said!r}: expected with key=value …, and sacred's options, such as -l DEBUG, behind; --help lists them"
        ) from None


def wrong_usage(experiment: Experiment, arguments: Mapping[str, Any]) -> Iterator[str]:
    """A line for each command and option of sacred's that would end in a traceback."""
    commands = dict(experiment.gather_commands())
    if (command := arguments["COMMAND"]) and command not in commands:
        yield (
            f"unknown command {command!r}{did_you_mean(command, commands, always=False)}; "
            "a configuration stands behind with, such as: with data_root=ARROW_ROOT"
        )
    for option, package in PACKAGES.items():
        if arguments.get(option) and importlib.util.find_spec(package) is None:
            yield f"{option} needs the package {package}, which is not installed"
    for option in NUMBERS:
        if arguments.get(option) and not _is_number(arguments[option]):
            yield f"{option}={arguments[option]!r}: expected a number"
    if (level := arguments["--loglevel"]) and not (level.isdecimal() or level in LEVELS):
        yield f"--loglevel={level!r}: expected a number or {', '.join(LEVELS)}"
    if (mode := arguments["--capture"]) and mode not in ("no", "sys", "fd"):
        yield f"--capture={mode!r}: expected no, sys or fd"
    if arguments["--queue"] and not any(arguments.get(option) for option in PACKAGES):
        yield f"--queue keeps the run in a database and trains nothing: give it one by {', '.join(PACKAGES)}"
    if arguments["--enforce_clean"]:
        yield "--enforce_clean: the state of the repository is not looked at here; leave it out"


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True
