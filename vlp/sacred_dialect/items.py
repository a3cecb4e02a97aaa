"""Values of a command line or a config file are plain ones: seen before sacred reads them.

Sacred would build the objects that a value names, and ends in a traceback where items contradict each other.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator, Sequence
from typing import Any

MOST_VALUES, DEEPEST = 10_000, 20  # aliases of YAML can stand for billions of values, or a value for itself


def wrong_items(items: Sequence[str]) -> Iterator[str]:
    """A line for each item ``key=value`` whose value is not plain, or that contradicts another."""
    before: list[tuple[list[str], Any]] = []
    for item in items:
        key, is_update, text = (part.strip() for part in item.partition("="))
        if not is_update:
            continue
        try:
            value = ast.literal_eval(text)
        except (ValueError, SyntaxError):  # sacred takes it for text, too
            value = text
        except (TypeError, MemoryError, RecursionError):
            yield f"{key}: {_short(text)} cannot be read as a value"
            continue
        if problem := not_plain(value):
            yield f"{key}={_short(text)}: {problem}"
        path = key.split(".")
        for other, others_value in before:
            if _contradict(other, others_value, path):
                yield f"{'.'.join(other)} and {key} contradict each other: give one of them"
        before.append((path, value))


def _contradict(first: list[str], first_value: Any, second: list[str]) -> bool:
    """Whether a key is given both as a whole and in part, other than a whole that is then changed in part."""
    if len(first) < len(second):
        return second[: len(first)] == first and not isinstance(first_value, dict)
    return len(first) > len(second) and first[: len(second)] == second


def not_plain(value: Any) -> str:
    """Why a value is not one of text, numbers, True, False, None, and lists and dictionaries of them; or nothing."""
    waiting, count = [(value, 0)], 0
    while waiting:
        value, depth = waiting.pop()
        count += 1
        if count > MOST_VALUES or depth > DEEPEST:
            return "more values than a configuration has"
        if isinstance(value, dict):
            for name in value:
                if not isinstance(name, str):
                    return f"the key {_short(repr(name))} is not text"
                if name.startswith("py/"):
                    return f"{name!r} names a Python object; plain values alone are read"
            waiting += [(each, depth + 1) for each in value.values()]
        elif isinstance(value, list | tuple):
            waiting += [(each, depth + 1) for each in value]
        elif not isinstance(value, str | int | float | None):
            return f"{type(value).__name__} is not among text, numbers, True, False, None, lists and dictionaries"
    return ""


def _short(text: str) -> str:
    return text if len(text) <= 60 else f"{text[:60]}…"
