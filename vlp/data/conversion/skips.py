"""What a conversion leaves out, counted by reason."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

_EXAMPLES = 5


class Skips(dict[str, dict[str, Any]]):
    """What was left out and why: reason -> ``{"count": n, "examples": [the first five]}``."""

    def add(self, reason: str, example: str, count: int = 1) -> None:
        """Count ``count`` things left out for ``reason``; ``example`` names the first of them."""
        entry = self.setdefault(reason, {"count": 0, "examples": []})
        entry["count"] += count
        if len(entry["examples"]) < _EXAMPLES:
            entry["examples"].append(example.encode(errors="backslashreplace").decode())  # names may be no Unicode


def merge_skips(parts: Iterable[Mapping[str, Mapping[str, Any]]]) -> Skips:
    """Add up what the ``parts`` of a conversion left out, in their order."""
    merged = Skips()
    for part in parts:
        for reason, entry in part.items():
            total = merged.setdefault(reason, {"count": 0, "examples": []})
            total["count"] += entry["count"]
            total["examples"] = (total["examples"] + entry["examples"])[:_EXAMPLES]
    return merged
