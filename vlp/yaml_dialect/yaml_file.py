"""Read YAML files of configurations: plain values alone, and what is wrong with the file, line and key.

YAML 1.2, as officially: ``1e-5`` is a number, ``no`` is text.
Source: docs/official/albef.md §2.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.constructor import DuplicateKeyError
from ruamel.yaml.error import YAMLError
from ruamel.yaml.representer import SafeRepresenter

from vlp.config.plain import not_plain
from vlp.config.schema import ConfigError
from vlp.files import atomic_open, why_not_regular

_LARGEST = 1 << 20  # bytes of a configuration file


def read_yaml(path: str | Path) -> dict[str, Any]:
    """The keys of a YAML file.

    Raises:
        ConfigError: it is not there, no YAML, or holds more than plain values; names the file and, where there is one,
            the line.
    """
    path, text = Path(path), _text(Path(path))
    try:
        values = load_yaml(text)
    except YAMLError as error:
        raise ConfigError(f"{path}{_place(error)}: {_reason(error)}") from None
    except (ValueError, RecursionError) as error:
        raise ConfigError(f"{path}: {' '.join(str(error).split())}") from None
    if not isinstance(values, dict):
        raise ConfigError(f"{path}: expected keys with values, as in image_res: 256")
    if problem := not_plain(values):
        raise ConfigError(f"{path}: {problem}")
    return values


def key_lines(path: str | Path) -> dict[str, int]:
    """On which line of a YAML file, which :func:`read_yaml` reads, each key of it stands; lines count from 1."""
    root = YAML(typ="safe", pure=True).compose(_text(Path(path)))
    return {str(name.value): name.start_mark.line + 1 for name, _ in root.value} if root is not None else {}


def read_json(path: str | Path) -> dict[str, Any]:
    """The object in a JSON file, such as that of ``bert_config``.

    Raises:
        ConfigError: it is not there, no JSON, or no object; names the file.
    """
    path, text = Path(path), _text(Path(path))
    try:
        values = json.loads(text, object_pairs_hook=_each_once)
    except json.JSONDecodeError as error:
        raise ConfigError(f"{path}, line {error.lineno}: not JSON ({error.msg})") from None
    except (ValueError, RecursionError) as error:
        raise ConfigError(f"{path}: {error}") from None
    if not isinstance(values, dict):
        raise ConfigError(f"{path}: expected an object, {{…}}")
    return values


def load_yaml(text: str) -> Any:
    """The one value of a YAML text; tags of Python objects are not read.

    Raises:
        YAMLError: no YAML, or a key that is there twice.
        ValueError: a number that Python cannot hold.
    """
    return YAML(typ="safe", pure=True).load(text)  # the C reader knows YAML 1.1 alone


def write_yaml(path: str | Path, values: Mapping[str, Any]) -> None:
    """Write plain values as YAML, atomically."""
    writer = YAML(typ="safe", pure=True)
    writer.Representer = _Representer
    writer.default_flow_style = None
    with atomic_open(path) as handle:
        writer.dump(dict(values), handle)


_PLAIN = re.compile(r"[\w./][\w./+-]*", re.ASCII)


class _Representer(SafeRepresenter):
    """Quotes what is not a plain word or path: ruamel writes some text as it is and reads it as something else.

    ``?0`` would be a key, ``:0`` no YAML, a line break of Unicode a space.
    """


def _represent_text(representer: SafeRepresenter, text: str) -> Any:
    style = None if _PLAIN.fullmatch(text) else '"'
    return representer.represent_scalar("tag:yaml.org,2002:str", text, style=style)


_Representer.add_representer(str, _represent_text)


def _text(path: Path) -> str:
    if why := why_not_regular(path):
        raise ConfigError(f"{path}: {why}")
    if path.stat().st_size > _LARGEST:
        raise ConfigError(f"{path}: more than {_LARGEST:,} bytes, which no configuration has")
    try:
        return path.read_text(encoding="utf-8")
    except UnicodeDecodeError:
        raise ConfigError(f"{path}: not UTF-8 text") from None


def _place(error: YAMLError) -> str:
    mark = getattr(error, "problem_mark", None) or getattr(error, "context_mark", None)
    return f", line {mark.line + 1}" if mark is not None else ""


def _reason(error: YAMLError) -> str:
    if isinstance(error, DuplicateKeyError):
        return f"{str(error.problem).split(' with value')[0].removeprefix('found ')}; give it once"
    problem = getattr(error, "problem", None) or "not YAML"
    if "could not determine a constructor" in str(problem):
        return "a tag that is not read: write plain values"
    return " ".join(str(problem).split())


def _each_once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, value in pairs:
        if name in found:
            raise ValueError(f"the key {name!r} is there twice")
        found[name] = value
    return found
