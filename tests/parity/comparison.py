"""Compare a computed array with a stored one: docs/official/meter.md §11, "How to read one".

|computed - stored| <= atol + rtol * |stored| at every element, in float64. Strings and integers must be equal; an
integer array may differ by whole levels only where a pattern that names it (not `default`) grants them.
"""

from __future__ import annotations

import ast
from collections.abc import Mapping
from fnmatch import fnmatchcase
from typing import Any, NamedTuple

import numpy as np

Tolerances = Mapping[str, Mapping[str, float]]


class Comparison(NamedTuple):
    """Outcome for one array: the worst error over its tolerance (passes up to 1) and, in words, where it stands."""

    name: str
    ratio: float
    detail: str

    @property
    def passed(self) -> bool:
        return self.ratio <= 1  # NaN compares false


def parse_slice(text: str) -> tuple[Any, ...]:
    """The index that a slice in NumPy notation, such as ``[:, -2:, [0, 4]]``, stands for; nothing is evaluated.

    Raises:
        ValueError: the text is not a slice of whole numbers.
    """
    try:
        node = ast.parse(f"x{text}", mode="eval").body
    except SyntaxError as error:
        raise ValueError(f"{text!r} is not a slice") from error
    if not isinstance(node, ast.Subscript) or not isinstance(node.value, ast.Name):
        raise ValueError(f"{text!r} is not a slice")
    parts = node.slice.elts if isinstance(node.slice, ast.Tuple) else [node.slice]
    return tuple(_index(part, text) for part in parts)


def _index(node: ast.expr, text: str) -> Any:
    if isinstance(node, ast.Slice):
        bounds = (node.lower, node.upper, node.step)
        return slice(*(None if bound is None else ast.literal_eval(bound) for bound in bounds))
    try:
        value = ast.literal_eval(node)
    except ValueError as error:
        raise ValueError(f"{text!r} is not a slice of whole numbers") from error
    if value is Ellipsis or isinstance(value, int | list):
        return value
    raise ValueError(f"{text!r} is not a slice of whole numbers")


def tolerance(name: str, tolerances: Tolerances) -> tuple[float, float, bool]:
    """(atol, rtol, named) of an array: the first pattern that matches its name, else `default`.

    Raises:
        KeyError: nothing matches and there is no default.
    """
    for pattern, entry in tolerances.items():
        if pattern != "default" and fnmatchcase(name, pattern):
            return entry["atol"], entry["rtol"], True
    return tolerances["default"]["atol"], tolerances["default"]["rtol"], False


def compare(name: str, computed: np.ndarray, stored: np.ndarray, cut: str | None, tolerances: Tolerances) -> Comparison:
    """Compare `computed`, the full array, with `stored`, what `cut` keeps of it (None: all)."""
    computed = np.asarray(computed)
    if cut is not None:
        try:
            computed = computed[parse_slice(cut)]
        except IndexError as error:
            return Comparison(name, np.inf, f"shape {computed.shape} has no slice {cut}: {error}")
    if computed.shape != stored.shape:
        return Comparison(name, np.inf, f"shape {computed.shape}, stored {stored.shape}")
    if _family(computed) != _family(stored):
        return Comparison(name, np.inf, f"type {computed.dtype}, stored {stored.dtype}")
    if stored.size == 0:
        return Comparison(name, 0.0, "empty")
    limits = (0.0, 0.0, False) if _family(stored) == "string" else tolerance(name, tolerances)
    ratios = _ratios(computed, stored, *limits)
    worst = np.unravel_index(int(np.argmax(ratios)), ratios.shape)
    where = f" at {[int(i) for i in worst]}" if worst else ""
    detail = f"computed {computed[worst]!s}, stored {stored[worst]!s}{where}"
    return Comparison(name, float(ratios[worst]), detail)


def _family(array: np.ndarray) -> str:
    return {"U": "string", "S": "string", "O": "object", "f": "float"}.get(array.dtype.kind, "integer")


def _ratios(computed: np.ndarray, stored: np.ndarray, atol: float, rtol: float, named: bool) -> np.ndarray:
    """Error over tolerance, per element; infinite where there is no tolerance or a NaN."""
    equal = computed == stored
    if _family(stored) == "string" or (_family(stored) == "integer" and not (named and atol >= 1)):
        return np.where(equal, 0.0, np.inf)
    if _family(stored) == "integer":
        rtol = 0.0
    with np.errstate(divide="ignore", invalid="ignore"):
        ours, theirs = computed.astype(np.float64), stored.astype(np.float64)
        ratios = np.where(equal, 0.0, np.abs(ours - theirs) / (atol + rtol * np.abs(theirs)))
    return np.where(np.isnan(ratios), np.inf, ratios)
