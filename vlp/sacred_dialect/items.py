"""Values of a command line or a config file are plain ones: seen before sacred reads them.

Sacred would build the objects that a value names, and ends in a traceback where items contradict each other.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator, Sequence
from typing import Any

from vlp.config.plain import not_plain, shortened


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
            yield f"{key}: {shortened(text)} cannot be read as a value"
            continue
        if problem := not_plain(value):
            yield f"{key}={shortened(text)}: {problem}"
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
