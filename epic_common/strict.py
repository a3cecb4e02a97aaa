"""Settings that refuse what they do not mean: names, types and ranges, each in words."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Any

from annotated_types import Ge, Gt, Le, Lt
from pydantic import ConfigDict, ValidationError

# An unknown name, a number where a word is wanted, infinity or NaN is refused.
STRICT = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False)
Positive = Annotated[int, Ge(1)]
Amount = Annotated[float, Ge(0)]
PositiveAmount = Annotated[float, Gt(0)]
Share = Annotated[float, Ge(0), Le(1)]
OpenShare = Annotated[float, Gt(0), Lt(1)]

_BOUNDS = {"ge": "at least", "gt": "above", "le": "at most", "lt": "below"}
_OUTSIDE = ("greater_than", "greater_than_equal", "less_than", "less_than_equal")


def in_words(settings: Any, error: ValidationError, prefix: str = "") -> str:
    """What is wrong with values of the pydantic dataclass ``settings``; ``prefix`` goes before a field's name."""
    return "; ".join(_one(settings, each, prefix) for each in error.errors(include_url=False))


def _one(settings: Any, error: Any, prefix: str) -> str:
    if error["type"] == "value_error":  # a contradiction, which names the fields itself
        return str(error["ctx"]["error"])
    name = error["loc"][0]
    allowed = [*_bounds(settings.__pydantic_fields__[name].metadata)]
    if error["type"] not in _OUTSIDE:
        allowed.insert(0, error["msg"].removeprefix("Input should be "))
    return f"{prefix}{name} is {error['input']!r:.300}; it must be {', '.join(allowed)}"


def _bounds(constraints: Any) -> Iterator[str]:
    for each in constraints:
        yield from (f"{word} {getattr(each, bound)}" for bound, word in _BOUNDS.items() if hasattr(each, bound))
