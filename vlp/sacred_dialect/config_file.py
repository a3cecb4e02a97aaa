"""Read a config file of plain values, as sacred takes one for a named config."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import yaml

MOST_BYTES = 1 << 20
MOST_VALUES = 10_000  # counted as often as aliases repeat them


def read_config_file(path: Path) -> tuple[list[str], dict[str, Any]]:
    """What is wrong with a file, if anything, and its keys with their values."""
    if path.suffix not in (".yaml", ".yml", ".json"):
        return ["only .yaml, .yml and .json are read"], {}
    try:
        if path.stat().st_size > MOST_BYTES:
            return [f"has more than {MOST_BYTES:,} bytes"], {}
        text = path.read_text(encoding="utf-8")
        values = json.loads(text, object_hook=_plain) if path.suffix == ".json" else yaml.safe_load(text)
    except (ValueError, yaml.YAMLError, OSError) as error:
        return [" ".join(str(error).split())], {}
    except RecursionError:
        return ["is nested too deep"], {}
    if not isinstance(values, dict) or not all(isinstance(key, str) for key in values):
        return ["expected keys with values"], {}
    if not _is_small(values):
        return [f"holds more than {MOST_VALUES:,} values, or itself"], {}
    return [], values


def _plain(values: dict[str, Any]) -> dict[str, Any]:
    if objects := [key for key in values if key.startswith("py/")]:
        raise ValueError(f"{objects[0]!r} names a Python object; plain values alone are read")
    return values


def _is_small(values: Any) -> bool:
    todo, count = [values], 0
    while todo and count <= MOST_VALUES:
        value, count = todo.pop(), count + 1
        todo += value.values() if isinstance(value, dict) else value if isinstance(value, list | set | tuple) else ()
    return count <= MOST_VALUES
