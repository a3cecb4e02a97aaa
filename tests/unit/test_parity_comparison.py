"""How a computed array is compared with a stored one (docs/official/meter.md §11)."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from tests.parity.comparison import Tolerances, compare, parse_slice

EXACT: Tolerances = {"default": {"rtol": 0, "atol": 0}}


def ratio(computed: Any, stored: Any, tolerances: Tolerances = EXACT, cut: str | None = None, name: str = "x") -> float:
    return compare(name, np.asarray(computed), np.asarray(stored), cut, tolerances).ratio


def test_error_is_measured_against_atol_plus_rtol_of_the_stored_value() -> None:
    loose: Tolerances = {"x": {"atol": 0.1, "rtol": 0.01}, **EXACT}
    assert ratio([1.0, 10.1], [1.0, 10.0], loose) == pytest.approx(0.1 / 0.2)
    assert ratio([1.0, 10.4], [1.0, 10.0], loose) == pytest.approx(2)
    assert ratio([1.0], [1.0]) == 0
    assert ratio([1.0000001], [1.0]) == np.inf
    assert ratio([np.inf], [np.inf]) == 0


@pytest.mark.parametrize(
    ("computed", "stored"),
    [
        ([np.nan], [np.nan]),
        ([np.nan], [1.0]),
        ([1.0], [np.nan]),
        ([np.inf], [1.0]),
        ([1.0, 2.0], [1.0]),
        ([[1.0]], [1.0]),
        ([1.0], [1]),
        ([1], [1.0]),
        ([1], ["1"]),
        (["a"], ["b"]),
        ([1000001], [1000000]),
        ([True], [False]),
    ],
)
def test_what_no_default_tolerance_lets_pass(computed: list[Any], stored: list[Any]) -> None:
    assert ratio(computed, stored, {"default": {"atol": 9, "rtol": 9}}) == np.inf


def test_integers_are_exact_unless_a_pattern_names_them() -> None:
    grey: Tolerances = {"x*": {"atol": 1, "rtol": 0.5}, **EXACT}
    assert ratio([4, 255], [5, 254], grey) == 1
    assert ratio([7], [5], grey) == 2  # rtol does not count
    assert ratio(np.array([0], np.uint8), np.array([255], np.uint8), grey) == 255
    assert ratio([5], [5]) == 0 and ratio(["a"], ["a"]) == 0 and ratio([], []) == 0
    assert ratio(np.array([5], np.int32), [5]) == 0


def test_the_first_pattern_that_matches_counts() -> None:
    patterns: Tolerances = {"x.*": {"atol": 1.0, "rtol": 0}, "x.[ab]": {"atol": 0.1, "rtol": 0}, **EXACT}
    assert ratio([1.5], [1.0], patterns, name="x.a") == 0.5
    assert ratio([1.5], [1.0], patterns, name="X.a") == np.inf


def test_slices_are_parsed_not_evaluated() -> None:
    full = np.arange(60.0).reshape(3, 4, 5)
    for text in ("[:, ::2, :3]", "[..., -1]", "[:, [0, 3], 1:]", "[2]", "[:, 0, :]", "[-2:]"):
        assert np.array_equal(full[parse_slice(text)], eval(f"full{text}"))
        assert ratio(full, full[parse_slice(text)], cut=text) == 0
    assert ratio(full, full, cut="[:, :, :, 0]") == np.inf
    for text in ("[__import__('os')]", "[0](1)", "[:", "", "['a']", "[1.5]"):
        with pytest.raises(ValueError, match="is not a slice"):
            parse_slice(text)
