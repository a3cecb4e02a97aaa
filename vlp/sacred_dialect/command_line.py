"""Run a sacred command line: its names are checked before sacred resolves it, its values before anything is loaded."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from docopt import docopt
from sacred import Experiment
from sacred.arg_parser import get_config_updates

from vlp.config.nearest import did_you_mean
from vlp.config.paths import check_paths
from vlp.config.schema import ConfigError, Schema, check, check_keys
from vlp.sacred_dialect.config import base_config
from vlp.sacred_dialect.config_file import read_config_file


def launch(experiment: Experiment, schema: type[Schema], run: Callable[[dict[str, Any]], None]) -> None:
    """Resolve this process's command line and ``run`` the config if it can; else a line for each wrong key, status 1.

    ``run`` is to import the model: a wrong command line then gets its answer at once.
    """

    @experiment.main
    def main(_config: dict[str, Any]) -> None:
        try:
            check(schema, _config)
            check_paths(schema, _config)
        except ConfigError as error:
            sys.exit(_as_errors(error))
        run(_config)

    check_command_line(experiment, schema, sys.argv)
    experiment.run_commandline()


def _as_errors(error: ConfigError) -> str:
    return "\n".join(f"error: {line}" for line in str(error).splitlines())


class CommandLineError(SystemExit):
    """An unknown config key or named config; its message names the nearest known one. Exits with status 2."""

    def __init__(self, message: str) -> None:
        super().__init__(2)
        self.message = message


def check_command_line(experiment: Experiment, schema: type[Schema], argv: Sequence[str]) -> None:
    """Refuse what sacred would stumble over: unknown named configs and (also dotted) keys, values of the wrong kind.

    A config file is a named config. Sacred would unpickle one, or build the objects that a JSON file names: plain
    values alone are let through.

    Raises:
        CommandLineError: after printing every wrong item with the nearest known name.
        SystemExit: sacred's own usage is broken, or values are wrong; with a line for each.
    """
    # Sacred's own options may follow, some with a value: its grammar alone tells them from config items.
    _, _, usage = experiment.get_usage()
    items = docopt(usage, list(argv[1:]), False)["UPDATE"]
    base, given = base_config(experiment), dict[str, dict[str, Any]]()
    problems = [_short_block(item, base) for item in items]
    for item in items:
        given[item], named = get_config_updates([item])
        if named and Path(item).is_file():
            wrong, given[item] = read_config_file(Path(item))
            found = wrong or _wrong_names(given[item], base)
            problems += [f"config file {item}: {problem}" for problem in found if problem]
        elif named:
            problems.append(_unknown("named config", item, experiment.named_configs))
        else:
            problems += _unknown_keys(given[item], base)
    if message := "\n".join(problem for problem in problems if problem):
        print(message, file=sys.stderr)
        raise CommandLineError(message)
    try:
        for values in given.values():
            # Of a block, single keys may still be joined by others: it is looked at when all are known.
            check_keys(schema, {key: value for key, value in values.items() if not isinstance(value, dict)})
    except ConfigError as error:
        sys.exit(_as_errors(error))
    _refuse_whole_beside_parts(items)


def _refuse_whole_beside_parts(items: Sequence[str]) -> None:
    """``init=random init.vision=FILE``, which sacred cannot join."""
    keys = [item.partition("=")[0].strip() for item in items if "=" in item]
    for key in keys:
        if parts := [part for part in keys if part.startswith(f"{key}.")]:
            sys.exit(f"error: {key}= and {parts[0]}=: give a key as a whole or by its own keys, not both")


def _wrong_names(values: dict[str, Any], known: Mapping[str, Any]) -> list[str]:
    switches = values.get(SWITCHES)
    return [*_unknown_keys(values, known), _short(switches, known) if isinstance(switches, dict) else ""]


def _unknown_keys(updates: Mapping[str, Any], known: Mapping[str, Any], prefix: str = "") -> list[str]:
    problems = []
    for key, value in updates.items():
        problems.append(_unknown("config key", key, known, prefix))
        if isinstance(value, dict) and isinstance(known.get(key), dict):
            problems += _unknown_keys(value, known[key], f"{prefix}{key}.")
    return problems


def _unknown(kind: str, name: str, known: Iterable[str], prefix: str = "") -> str:
    known = list(known)
    return "" if name in known else f"unknown {kind} {prefix + name!r}{did_you_mean(name, known, prefix)}"


SWITCHES = "loss_names"


def _short_block(item: str, known: Mapping[str, Any]) -> str:
    """``loss_names={'mlm': 1}``: sacred would leave the tasks that it does not name as they were."""
    updates, _ = get_config_updates([item])
    value = updates.get(SWITCHES)
    return _short(value, known) if item.startswith(f"{SWITCHES}=") and isinstance(value, dict) else ""


def _short(switches: Mapping[str, Any], known: Mapping[str, Any]) -> str:
    lacking = [task for task in known.get(SWITCHES, ()) if task not in switches]
    if not lacking:
        return ""
    return (
        f"{SWITCHES}={dict(switches)} lacks {', '.join(lacking)}, which would stay as they are: write every task, or "
        f"{SWITCHES}.{lacking[0]}=0 for one"
    )
