"""Values of a configuration are plain ones, whatever file or command line they come from."""

from __future__ import annotations

from typing import Any

MOST_VALUES, DEEPEST = 10_000, 20  # aliases of YAML can stand for billions of values, or a value for itself


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
                    return f"the key {shortened(repr(name))} is not text"
                if name.startswith("py/"):
                    return f"{name!r} names a Python object; plain values alone are read"
            waiting += [(each, depth + 1) for each in value.values()]
        elif isinstance(value, list | tuple):
            waiting += [(each, depth + 1) for each in value]
        elif not isinstance(value, str | int | float | None):
            return f"{type(value).__name__} is not among text, numbers, True, False, None, lists and dictionaries"
    return ""


def shortened(text: str, most: int = 60) -> str:
    """A text as a message repeats it."""
    return text if len(text) <= most else f"{text[:most]}…"
