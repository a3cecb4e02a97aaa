"""The known name that a mistyped one is nearest to."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from typing import Any


def did_you_mean(wrong: Any, known: Iterable[str], prefix: str = "", always: bool = True) -> str:
    """``"; did you mean 'image_size'?"``, or nothing where nothing is known or, unless ``always``, alike."""
    if not isinstance(wrong, str):
        return ""
    by_lower = {name.lower(): name for name in known}
    near = difflib.get_close_matches(wrong.lower(), by_lower, n=1, cutoff=0.0 if always else 0.5)
    return f"; did you mean {prefix + by_lower[near[0]]!r}?" if near else ""
