"""Run a sacred command line: its names are checked before sacred resolves it, its values before anything is loaded."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml
from docopt import docopt
from sacred import Experiment
from sacred.arg_parser import get_config_updates

from vlp.config.nearest import did_you_mean
from vlp.config.paths import check_paths
from vlp.config.schema import ConfigError, check
from vlp.sacred_dialect.config import base_config
from vlp.sacred_dialect.keys import SacredKeys


def launch(experiment: Experiment, schema: type[SacredKeys], run: Callable[[dict[str, Any]], None]) -> None:
    """Resolve this process's command line and ``run`` the config if it can; else a line for each wrong key, status 1.

    ``run`` is to import the model: a wrong command line then gets its answer at once.
    """

    @experiment.main
    def main(_config: dict[str, Any]) -> None:
        try:
            check(schema, _config)
            check_paths(schema, _config)
        except ConfigError as error:
            sys.exit("\n".join(f"error: {line}" for line in str(error).splitlines()))
        run(_config)

    check_command_line(experiment, sys.argv)
    experiment.run_commandline()


class CommandLineError(SystemExit):
    """An unknown config key or named config; its message names the nearest known one. Exits with status 2."""

    def __init__(self, message: str) -> None:
        super().__init__(2)
        self.message = message


def check_command_line(experiment: Experiment, argv: Sequence[str]) -> None:
    """Refuse unknown named configs and unknown (also dotted) keys after ``with``; a config file is a named config.

    Sacred would unpickle a config file, or build the objects that a JSON one names: plain values alone are let through.

    Raises:
        CommandLineError: after printing every wrong item with the nearest known name.
        SystemExit: sacred's own usage is broken.
    """
    # Sacred's own options may follow, some with a value: its grammar alone tells them from config items.
    _, _, usage = experiment.get_usage()
    items = docopt(usage, list(argv[1:]), False)["UPDATE"]
    updates, named = get_config_updates(items)
    base = base_config(experiment)
    problems = [_short_block(item, base) for item in items]
    for name in named:
        if Path(name).is_file():
            problems += _wrong_in_file(Path(name), base)
        else:
            problems.append(_unknown("named config", name, experiment.named_configs))
    problems += _unknown_keys(updates, base)
    if found := [problem for problem in problems if problem]:
        message = "\n".join(found)
        print(message, file=sys.stderr)
        raise CommandLineError(message)


def _wrong_in_file(path: Path, known: Mapping[str, Any]) -> list[str]:
    try:
        if path.suffix in (".yaml", ".yml"):
            values = yaml.safe_load(path.read_text(encoding="utf-8"))
        elif path.suffix == ".json":
            values = json.loads(path.read_text(encoding="utf-8"), object_hook=_plain)
        else:
            return [f"config file {path}: only .yaml, .yml and .json are read"]
    except (ValueError, yaml.YAMLError) as error:
        return [f"config file {path}: {' '.join(str(error).split())}"]
    if not isinstance(values, dict):
        return [f"config file {path}: expected keys with values"]
    problems = _unknown_keys(values, known)
    if isinstance(switches := values.get(SWITCHES), dict):
        problems.append(_short(switches, known))
    return [f"config file {path}: {problem}" for problem in problems if problem]


def _plain(values: dict[str, Any]) -> dict[str, Any]:
    if objects := [key for key in values if key.startswith("py/")]:
        raise ValueError(f"{objects[0]!r} names a Python object; plain values alone are read")
    return values


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
