"""Values that a JSON file may hold where another one belongs."""

from __future__ import annotations

from typing import Any

ODD: list[Any] = [
    None,
    True,
    0,
    -1,
    2**70,
    1e308,
    float("inf"),
    "",
    "1",
    "\ud800",
    "a\0b",
    "../../x",
    "/etc/passwd",
    "x" * 300,
]
ODD += [[], {}, [[]], ["x"], {"a": 1}, [None]]


def places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """The path of every value within a JSON value."""
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [path, *(place for key, inner in items for place in places(inner, (*path, key)))]


def replaced(value: Any, path: tuple[Any, ...], odd: Any) -> Any:
    """``value`` with ``odd`` at ``path``."""
    if not path:
        return odd
    copy = dict(value) if isinstance(value, dict) else list(value)
    copy[path[0]] = replaced(value[path[0]], path[1:], odd)
    return copy
