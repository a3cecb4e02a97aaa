"""The t interval against tables, printed examples and simulation; what a verdict needs."""

from __future__ import annotations

import math
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reproduce.miniature.intervals import Interval, paired, t_interval, verdict

# Two-sided 95 % quantiles of Student's t, from the tables of textbooks.
QUANTILES = {1: 12.706, 2: 4.303, 3: 3.182, 4: 2.776, 5: 2.571, 6: 2.447, 7: 2.365, 8: 2.306, 9: 2.262, 29: 2.045}
# Student's own example (1908): additional hours of sleep by two drugs, ten patients.
SLEEP = ([0.7, -1.6, -0.2, -1.2, -0.1, 3.4, 3.7, 0.8, 0.0, 2.0], [1.9, 0.8, 1.1, 0.1, -0.1, 4.4, 5.5, 1.6, 4.6, 3.4])

values = st.lists(st.integers(-10_000, 10_000).map(lambda n: n / 100), min_size=2, max_size=12)
amounts = st.integers(-1000, 1000).map(lambda n: n / 10)


def of(differences: list[float]) -> Interval:
    interval = t_interval(differences)
    assert interval is not None
    return interval


@pytest.mark.parametrize("freedom", QUANTILES)
def test_the_reach_is_that_of_the_printed_quantile(freedom: int) -> None:
    differences = [float(n * n % 7) for n in range(freedom + 1)]
    mean = sum(differences) / len(differences)
    variance = sum((each - mean) ** 2 for each in differences) / freedom
    interval = of(differences)
    reach = QUANTILES[freedom] * math.sqrt(variance / len(differences))
    assert (interval.mean, interval.pairs) == (pytest.approx(mean), freedom + 1)
    assert interval.high - interval.mean == pytest.approx(reach, rel=5e-4)
    assert interval.mean - interval.low == pytest.approx(reach, rel=5e-4)


def test_students_own_example() -> None:
    first, second = (dict(enumerate(hours)) for hours in SLEEP)
    interval = of([*paired(second, first).values()])
    assert interval.mean == pytest.approx(1.58)
    assert (interval.low, interval.high) == (pytest.approx(0.70, abs=0.005), pytest.approx(2.46, abs=0.005))


@given(values, amounts)
def test_shifting_the_differences_shifts_the_interval(differences: list[float], by: float) -> None:
    before, after = of(differences), of([each + by for each in differences])
    for name in ("mean", "low", "high"):
        assert getattr(after, name) == pytest.approx(getattr(before, name) + by, abs=1e-7)


@given(values, amounts)
def test_scaling_the_differences_scales_the_interval(differences: list[float], by: float) -> None:
    before, after = of(differences), of([each * by for each in differences])
    ends = sorted((before.low * by, before.high * by))
    assert [after.low, after.high] == pytest.approx(ends, rel=1e-7, abs=1e-6)


@given(values, values, amounts)
def test_what_both_models_have_in_common_does_not_count(first: list[float], second: list[float], by: float) -> None:
    left, right = dict(enumerate(first)), dict(enumerate(second))
    shifted = [{seed: value + by * seed for seed, value in side.items()} for side in (left, right)]
    before, after = paired(left, right), paired(*shifted)
    assert before.keys() == after.keys() == left.keys() & right.keys()
    assert [*after.values()] == pytest.approx([*before.values()], abs=1e-7)


def test_pairs_are_those_of_one_seed_in_the_order_of_seeds() -> None:
    assert paired({3: 5.0, 1: 2.0, 9: 0.0}, {1: 1.0, 3: 7.0, 4: 0.0}) == {1: 1.0, 3: -2.0}
    assert [*paired({3: 5.0, 1: 2.0}, {1: 1.0, 3: 7.0})] == [1, 3]


@pytest.mark.parametrize("count", [2, 5, 9])
def test_the_interval_covers_the_truth_as_often_as_it_says(count: int) -> None:
    rng = random.Random(count)
    repeats, truth = 3000, 1.7
    intervals = (of([rng.gauss(truth, 2.0) for _ in range(count)]) for _ in range(repeats))
    covered = sum(each.low <= truth <= each.high for each in intervals) / repeats
    assert abs(covered - 0.95) < 4 * math.sqrt(0.95 * 0.05 / repeats)


def test_one_pair_has_no_interval() -> None:
    assert t_interval([]) is None and t_interval([1.0]) is None


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_a_difference_that_is_not_finite_is_refused(bad: float) -> None:
    with pytest.raises(ValueError, match="finite"):
        t_interval([1.0, bad])


@pytest.mark.parametrize(
    ("low", "high", "directed", "alike"),
    [
        (0.1, 9.0, "supported", "undecided"),
        (-0.1, 4.0, "undecided", "supported"),
        (0.0, 4.0, "undecided", "supported"),
        (-4.0, -0.1, "contradicted", "supported"),
        (5.1, 9.0, "supported", "contradicted"),
        (-9.0, -5.1, "contradicted", "contradicted"),
        (-9.0, 9.0, "undecided", "undecided"),
    ],
)
def test_verdicts(low: float, high: float, directed: str, alike: str) -> None:
    interval = Interval((low + high) / 2, low, high, 5)
    assert (verdict(interval), verdict(interval, alike_within=5)) == (directed, alike)


@given(st.lists(amounts, max_size=4), st.sampled_from([None, 5.0]))
def test_fewer_than_five_pairs_have_no_verdict(differences: list[float], alike: float | None) -> None:
    assert verdict(t_interval(differences), alike) == "not run enough"


@given(st.lists(amounts, min_size=5, max_size=8))
def test_the_opposite_claim_has_the_opposite_verdict(differences: list[float]) -> None:
    opposite = {"supported": "contradicted", "contradicted": "supported", "undecided": "undecided"}
    assert verdict(of([-each for each in differences])) == opposite[verdict(of(differences))]
