"""Run a sacred command line: its names are checked before sacred resolves it, its values before anything is loaded."""

from __future__ import annotations

import copy
import json
import logging
import os
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml
from sacred import Experiment
from sacred.arg_parser import get_config_updates
from sacred.initialize import create_run

from vlp.config.nearest import did_you_mean
from vlp.config.paths import check_paths
from vlp.config.plain import not_plain
from vlp.config.schema import ConfigError, check, check_alone
from vlp.progress import import_slowly
from vlp.sacred_dialect.config import base_config
from vlp.sacred_dialect.items import wrong_items
from vlp.sacred_dialect.keys import SacredKeys
from vlp.sacred_dialect.usage import CommandLineError, parsed, wrong_usage
from vlp.safe_output import make_output_safe

SWITCHES = "loss_names"
FILES = (".yaml", ".yml", ".json")  # suffixes of config files


def launch(experiment: Experiment, schema: type[SacredKeys], run: Callable[[dict[str, Any]], None]) -> None:
    """Resolve this process's command line and ``run`` the config if it can; else a line for each wrong key, status 1.

    ``run`` is to import the model: a wrong command line then gets its answer at once.
    """
    make_output_safe()

    @experiment.main
    def main(_config: dict[str, Any]) -> None:
        or_exit(lambda: check(schema, _config))
        or_exit(lambda: check_paths(schema, _config))
        import_slowly("vlp.sacred_dialect.run")
        run(_config)

    # Sacred's observers are not needed: a run's folder has its config, log and results.
    logging.getLogger(str(experiment.path)).addFilter(lambda record: "No observers" not in record.getMessage())
    given = check_command_line(experiment, sys.argv)
    if "seed" in given:  # sacred itself draws from it before it hands over the config
        or_exit(lambda: check_alone(schema, {"seed": given["seed"]}))
    experiment.run_commandline()


def or_exit(check_config: Callable[[], None]) -> None:
    """What is wrong with the values ends in a line for each wrong key and status 1."""
    try:
        check_config()
    except ConfigError as error:
        sys.exit("\n".join(f"error: {line}" for line in str(error).splitlines()))


def check_command_line(experiment: Experiment, argv: Sequence[str]) -> dict[str, Any]:
    """Refuse unknown named configs and unknown (also dotted) keys after ``with``; a config file is a named config.

    Sacred would unpickle a config file, or build the objects that an item or a JSON file names: plain values alone are
    let through.

    Returns:
        What config files and items give, by key.

    Raises:
        CommandLineError: after printing every wrong item with the nearest known name.
    """
    try:
        arguments = parsed(experiment, argv)
        refuse([*wrong_usage(experiment, arguments), *wrong_items(arguments["UPDATE"])])
        return check_items(experiment, arguments["UPDATE"])
    except CommandLineError as error:
        print(error.message, file=sys.stderr)
        raise


def check_items(experiment: Experiment, items: Sequence[str]) -> dict[str, Any]:
    """As :func:`check_command_line`, of items whose values are plain."""
    updates, named = get_config_updates(items)
    base, given = base_config(experiment), dict[str, Any]()
    problems = [_short_block(item, base) for item in items]
    for name in named:
        if name in experiment.named_configs and not os.path.exists(name):
            continue
        values, wrong = _of_file(name, experiment, base)
        given |= values
        problems += wrong
    refuse([*problems, *_unknown_keys(updates, base)])
    return given | updates


def configured(experiment: Experiment, schema: type[SacredKeys], items: Sequence[str]) -> dict[str, Any]:
    """The config that the items of a command line give, checked; files and folders that it names need not be there.

    Raises:
        ConfigError: a line for each wrong item or key.
    """
    updates, named = plain_updates(experiment, schema, items)
    logging.disable(logging.WARNING)  # sacred warns of every key whose type a named config changes
    try:
        config = copy.deepcopy(create_run(experiment, "print_config", updates, named_configs=named).config)
    finally:
        logging.disable(logging.NOTSET)
    check(schema, config)
    return dict(config)


def plain_updates(
    experiment: Experiment, schema: type[SacredKeys], items: Sequence[str]
) -> tuple[dict[str, Any], list[str]]:
    """What items change, by key, and the named configs among them.

    Raises:
        ConfigError: a line for each wrong item.
    """
    try:
        refuse(wrong_items(items))
        given = check_items(experiment, items)
    except CommandLineError as error:
        raise ConfigError(error.message) from None
    if "seed" in given:  # sacred itself draws from it
        check_alone(schema, {"seed": given["seed"]})
    updates, named = get_config_updates(list(items))
    return updates, named


def refuse(problems: Iterable[str]) -> None:
    """Raises a CommandLineError of the problems that are not empty, if there are any."""
    if found := [problem for problem in problems if problem]:
        raise CommandLineError("\n".join(found))


def _of_file(name: str, experiment: Experiment, known: Mapping[str, Any]) -> tuple[dict[str, Any], list[str]]:
    """The values of a config file, and what is wrong with it; of a name that is none, that it is unknown."""
    if not os.path.exists(name) and Path(name).suffix in FILES:
        return {}, [f"config file {name}: no such file"]
    if not os.path.exists(name):
        return {}, [_unknown("named config", name, experiment.named_configs)]
    if name in experiment.named_configs:  # sacred prefers the file
        return {}, [f"{name} is a named config and a file or folder here: start from another folder, or rename it"]
    try:
        values = _read(name)
    except (ValueError, OSError, yaml.YAMLError) as error:
        return {}, [f"config file {name}: {' '.join(str(error).split())}"]
    problems = _unknown_keys(values, known)
    if isinstance(switches := values.get(SWITCHES), dict):
        problems.append(_short(switches, known))
    return values, [f"config file {name}: {problem}" for problem in problems if problem]


def _read(name: str) -> dict[str, Any]:
    path = Path(name)
    if path.suffix not in FILES:
        raise ValueError("only .yaml, .yml and .json are read")
    if not path.is_file():
        raise ValueError("not a file")
    try:
        text = path.read_text(encoding="utf-8")
        values = json.loads(text) if path.suffix == ".json" else yaml.safe_load(text)
    except RecursionError:
        raise ValueError("more values in values than a configuration has") from None
    if not isinstance(values, dict):
        raise ValueError("expected keys with values")
    if problem := not_plain(values):
        raise ValueError(problem)
    return values


def _unknown_keys(updates: Mapping[str, Any], known: Mapping[str, Any], prefix: str = "") -> list[str]:
    problems = []
    for key, value in updates.items():
        problems.append(_unknown("config key", key, known, prefix))
        if isinstance(value, dict) and isinstance(known.get(key), dict):
            problems += _unknown_keys(value, known[key], f"{prefix}{key}.")
        elif isinstance(value, dict) and value and key in known:
            problems.append(f"unknown config key {f'{prefix}{key}.{next(iter(value))}'!r}: {prefix}{key} has no keys")
    return problems


def _unknown(kind: str, name: str, known: Iterable[str], prefix: str = "") -> str:
    known = list(known)
    return "" if name in known else f"unknown {kind} {prefix + name!r}{did_you_mean(name, known, prefix)}"


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
