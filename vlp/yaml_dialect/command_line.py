"""The command line of a script: official flags, ``--flag VALUE``, then ``key=value`` for any key of the YAML file.

defaults < YAML file < ``tiny`` < flags < ``key=value``; what is given twice counts as given last, so that ``"$@"``
behind a script's own arguments overrides them. Everything is checked before a model is imported.
Source: docs/official/albef.md §1.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any, NoReturn, get_args

from ruamel.yaml.error import YAMLError

from vlp.config.nearest import did_you_mean
from vlp.config.paths import MustExist
from vlp.config.plain import not_plain, shortened
from vlp.config.schema import ConfigError, check, check_alone, defaults
from vlp.config.trial import TRIAL
from vlp.yaml_dialect.command import Command
from vlp.yaml_dialect.keys import Init, YamlKeys, flag_of, json_keys
from vlp.yaml_dialect.launch import meeting_place, world_size
from vlp.yaml_dialect.paths import check_files, in_hdfs
from vlp.yaml_dialect.yaml_file import key_lines, load_yaml, read_json, read_yaml

SMALL = "tiny"  # the item, and the folder of the small models beside the YAML files
WORDS = {"true": True, "1": True, "yes": True, "false": False, "0": False, "no": False}  # of a flag's switch
_LOCAL_RANK = ("--local_rank", "--local-rank")  # torch.distributed.launch gives it where --use_env is not given


def resolved(command: Command, argv: Sequence[str]) -> dict[str, Any]:
    """The configuration that a command line gives, checked; blocks of JSON files are the contents of those.

    Raises:
        ConfigError: a line for each wrong key, or for what is wrong with a file.
        SystemExit: wrong flags, with status 2; or ``--help``.
    """
    config = configured(command, argv)
    meeting_place(config["dist_url"])
    check_files(command.schema, config)
    return config


def configured(command: Command, argv: Sequence[str]) -> dict[str, Any]:
    """As :func:`resolved`, but files and folders that the configuration names need not be there."""
    schema = command.schema
    arguments = vars(parser(command).parse_intermixed_args([*argv]))
    path, items = arguments.pop("config"), [*arguments.pop("items"), *arguments.pop("swallowed", [])]
    arguments.pop("local_rank", None)
    base = plain_defaults(command)
    file = _file_values(path, schema, base)
    small = _small_values(command, base) if SMALL in items else {}
    given = nested_items([item for item in items if item != SMALL], base)
    arguments = {name: value for name, value in arguments.items() if not _leaves(schema, name, value)}
    last = {name: value for name, value in arguments.items() if _flag_is_last(name, argv)}
    config = base
    # Keys of the command line change those of a JSON file that the YAML file names.
    for changes in (file, small, arguments, *given, last):
        config = merged(_of_each_encoder(config, changes), changes)
        for name in json_keys(schema):
            if isinstance(config[name], str):
                config[name] = merged(base[name], _json_values(name, config[name], Path(path).parent))
    check_alone(schema, config)
    config["world_size"] = world_size(config["world_size"], config["distributed"])
    config = schema.settled(config)
    check(schema, config)
    return config


def _of_each_encoder(config: Mapping[str, Any], changes: Mapping[str, Any]) -> Mapping[str, Any]:
    """``config`` with ``init: random`` said of each encoder, where ``changes`` speak of one of them."""
    word = config["init"]
    if isinstance(word, str) and isinstance(changes.get("init"), Mapping):
        return {**config, "init": dict.fromkeys(Init.model_fields, word)}
    return config


def _flag_is_last(name: str, argv: Sequence[str]) -> bool:
    """Whether the flag of a key stands behind every item of that key."""
    heads = [word.split("=")[0].split(".")[0] for word in argv if word.startswith("--") or "=" in word]
    return next((head for head in reversed(heads) if head in (name, f"--{name}")), name) != name


def _leaves(schema: type[YamlKeys], name: str, value: Any) -> bool:
    """Whether a flag's value says that its key stays as it is."""
    flag = flag_of(schema.model_fields[name])
    return flag is not None and flag.unset is not None and value == flag.unset


def plain_defaults(command: Command) -> dict[str, Any]:
    """Every key of a script with its default, as plain values."""
    return defaults(command.schema)


def parser(command: Command) -> _Parser:
    """The flags of a script; what is not given is not in the result, but ``config`` and ``items``."""
    made = _Parser(
        prog=f"{command.name}.py",
        usage=f"{command.name}.py [--flag VALUE ...] [key=value ...]",
        epilog="key=value overrides any key of the YAML file, such as optimizer.lr=1e-5; docs/keys.md lists them all. "
        "tiny: a trial of a small model.",
        allow_abbrev=False,
        argument_default=argparse.SUPPRESS,
    )
    made.keys = command.schema.model_fields
    made.add_argument("--config", metavar="FILE", default=command.config, help=f"YAML file ({command.config})")
    made.add_argument(*_LOCAL_RANK, dest="local_rank", type=int, help=argparse.SUPPRESS)
    made.add_argument("items", nargs="*", default=[], metavar="key=value", help="keys of the YAML file")
    for name, field in command.schema.model_fields.items():
        if flag_of(field):
            _add_flag(made, name, field)
    return made


def _add_flag(made: argparse.ArgumentParser, name: str, field: Any) -> None:
    said = f"{field.description} ({field.default!r})" if field.default != "" else field.description
    if name == "evaluate":  # as officially, no value
        made.add_argument("--evaluate", action="store_true", help=field.description)
    elif isinstance(field.default, bool):
        made.add_argument(f"--{name}", nargs="?", action=_Switch, metavar="BOOL", help=said)
    elif get_args(field.annotation) and not isinstance(field.default, int | float):
        made.add_argument(f"--{name}", choices=get_args(field.annotation), help=said)
    else:
        kind = type(field.default) if isinstance(field.default, int | float) else str
        made.add_argument(f"--{name}", type=kind, metavar=kind.__name__.upper(), help=said)


class _Switch(argparse.Action):
    """``--resume``, ``--resume True``, ``--resume False``: what it says; an item behind it stays an item."""

    def __call__(self, parser: Any, namespace: Any, values: Any, option_string: str | None = None) -> None:
        word = "true" if values is None else str(values)
        if word.lower() not in WORDS and "=" in word:
            namespace.swallowed = [*getattr(namespace, "swallowed", []), word]
            word = "true"
        if word.lower() not in WORDS:
            parser.error(f"{option_string} {word}: expected True or False")
        setattr(namespace, self.dest, WORDS[word.lower()])


class _Parser(argparse.ArgumentParser):
    keys: Collection[str] = ()  # of the YAML file

    def error(self, message: str) -> NoReturn:
        if "unrecognized arguments" in message:
            message = self._unknown(message.split(": ", 1)[1].split()[0].split("=")[0])
        sys.stderr.write(f"error: {message}\n")
        raise SystemExit(2)

    def _unknown(self, flag: str) -> str:
        if (name := flag.lstrip("-").replace("-", "_")) in self.keys:
            return f"unknown flag {flag}: a key of the YAML file is given as {name}=VALUE"
        flags = [option for option in self._option_string_actions if option not in _LOCAL_RANK]
        return f"unknown flag {flag}{did_you_mean(flag, flags)}"


# Items ----------------------------------------------------------------------------------------------------------


def nested_items(items: Sequence[str], base: Mapping[str, Any]) -> list[dict[str, Any]]:
    """``key=value`` items as changes of nested keys: ``schedular.epochs=1`` -> ``[{"schedular": {"epochs": 1}}]``.

    Raises:
        ConfigError: a line for each that is no item, has an unknown key or an unreadable value.
    """
    changes = list[dict[str, Any]]()
    problems = list[str]()
    for item in items:
        name, is_item, text = item.partition("=")
        if not is_item:
            problems.append(f"{shortened(item)!r}: expected key=value, or a flag with two dashes")
            continue
        try:
            changes.append(_nested(name, _value(name, text), base))
        except ConfigError as error:
            problems.append(str(error))
    if problems:
        raise ConfigError("\n".join(problems))
    return changes


def _value(name: str, text: str) -> Any:
    """A value as YAML reads it; nothing is empty text, and None is null."""
    if text in ("", "None"):
        return None if text else ""
    try:
        value = load_yaml(text)
    except (YAMLError, ValueError, RecursionError):
        raise ConfigError(f"{name}={shortened(text)}: no YAML value; quote text as \"'…'\"") from None
    if problem := not_plain(value):
        raise ConfigError(f"{name}={shortened(text)}: {problem}")
    return value


def _nested(name: str, value: Any, base: Mapping[str, Any]) -> dict[str, Any]:
    known: Any = base
    path = name.split(".")
    for depth, part in enumerate(path):
        prefix = "".join(f"{each}." for each in path[:depth])
        if not isinstance(known, Mapping):
            raise ConfigError(f"unknown config key {name!r}: {prefix[:-1]} has no keys")
        if part not in known:
            raise ConfigError(f"unknown config key {prefix + part!r}{did_you_mean(part, known, prefix)}")
        known = known[part]
    for part in reversed(path):
        value = {part: value}
    return value


def merged(base: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """``base`` with ``changes``; blocks keep the keys that a change of them does not name."""
    both = dict(base)
    for name, value in changes.items():
        inner = both.get(name)
        both[name] = merged(inner, value) if isinstance(inner, Mapping) and isinstance(value, Mapping) else value
    return both


# Files ----------------------------------------------------------------------------------------------------------


def _file_values(path: str, schema: type[YamlKeys], base: Mapping[str, Any]) -> dict[str, Any]:
    """The keys of the YAML file; what is wrong with one is said with its line."""
    if remote := in_hdfs("--config", path):
        raise ConfigError(remote)
    values = read_yaml(path)
    problems = list[str]()
    for name, value in values.items():
        try:
            if name not in base:
                raise ConfigError(f"unknown config key {name!r}{did_you_mean(name, base)}")
            if not (name in json_keys(schema) and isinstance(value, str)):
                check_alone(schema, {name: merged(base, {name: value})[name]})
        except ConfigError as error:
            place = f"{path}, line {key_lines(path).get(name, 1)}"
            problems += [f"{place}: {line}" for line in str(error).splitlines()]
    if problems:
        raise ConfigError("\n".join(problems))
    return values


def _small_values(command: Command, base: Mapping[str, Any]) -> dict[str, Any]:
    """What makes a run a trial of a small model: the script's YAML file of one, less the data that it names."""
    official = Path(command.config)
    path = official.parent / SMALL / f"{command.name}.yaml"
    if not path.is_file():
        path = path.with_name(official.name)  # ALBEF's Pretrain_nlvr reads NLVR_pretrain.yaml
    fields = command.schema.model_fields
    values = _file_values(str(path), command.schema, base)
    model = {
        name: value
        for name, value in values.items()
        if not any(isinstance(each, MustExist) for each in fields[name].metadata)
    }
    return {**model, **TRIAL}


def _json_values(key: str, name: str, folder: Path) -> dict[str, Any]:
    """The JSON that ``key`` names: relative to the working directory, else to the YAML file's folder."""
    candidates = [Path(name), folder / name, folder / Path(name).name]
    path = next((each for each in candidates if each.is_file()), None)
    if path is None:
        raise ConfigError(f"{key}={name}: no such file, here or beside the YAML file in {folder}")
    return read_json(path)
