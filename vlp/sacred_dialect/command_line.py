"""Run a sacred command line, and check it before sacred does, so that a typo gets the nearest known name."""

from __future__ import annotations

import difflib
import json
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml
from docopt import docopt
from sacred import Experiment
from sacred.arg_parser import get_config_updates


def launch(experiment: Experiment, run: Callable[[dict[str, Any]], None]) -> None:
    """Resolve this process's command line and ``run`` the config."""

    @experiment.main
    def main(_config: dict[str, Any]) -> None:
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
    updates, named = get_config_updates(docopt(usage, list(argv[1:]), False)["UPDATE"])
    base: dict[str, Any] = {}
    for scope in experiment.configurations:
        base.update(scope())
    problems = []
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
    return [f"config file {path}: {problem}" for problem in _unknown_keys(values, known) if problem]


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
    if name in known:
        return ""
    nearest = difflib.get_close_matches(name, known, n=1, cutoff=0.0)
    return f"unknown {kind} {prefix + name!r}; did you mean {prefix + nearest[0]!r}?" if nearest else f"unknown {kind}"


# What may stand for a number or a switch: a named alternative, no limit, several of it.
ALTERNATIVES: dict[str, type | tuple[type, ...]] = {
    "precision": str,
    "compile": str,
    "decay_power": str,
    "max_steps": type(None),
    "num_gpus": (list, tuple),
}


def check_types(config: Mapping[str, Any], base: Mapping[str, Any], prefix: str = "") -> None:
    """Refuse values whose type contradicts the base config's (``image_size=abc``).

    A base value of None accepts anything, and int and float stand for each other (``warmup_steps=0.1``);
    :data:`ALTERNATIVES` lists the other exceptions.

    Raises:
        ValueError: naming the key, the value and the expected type.
    """
    for key, value in config.items():
        default = base.get(key)
        if isinstance(default, dict) and isinstance(value, dict):
            check_types(value, default, f"{prefix}{key}.")
        elif not (_fits(value, default) or isinstance(value, ALTERNATIVES.get(key, ()))):
            raise ValueError(f"{prefix}{key}={value!r}: expected {_type_name(default)}, like {default!r}")


def _fits(value: Any, default: Any) -> bool:
    if default is None:
        return True
    if isinstance(default, bool):
        return isinstance(value, bool | int)
    if isinstance(default, int | float):
        return isinstance(value, int | float) and not isinstance(value, bool)
    if isinstance(default, list):
        return isinstance(value, list | tuple)
    return isinstance(value, str | dict)


def _type_name(default: Any) -> str:
    return {bool: "True or False", int: "a number", float: "a number", list: "a list"}.get(type(default), "text")
