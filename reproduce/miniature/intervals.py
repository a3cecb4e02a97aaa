"""Paired differences by seed: their mean, its t interval, and what the interval says."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Literal

from scipy.special import stdtrit  # the inverse of Student's t distribution function

CONFIDENCE = 0.95
FEWEST_PAIRS = 5

Verdict = Literal["supported", "contradicted", "undecided", "not run enough"]
NOT_ENOUGH: Final = "not run enough"


@dataclass(frozen=True)
class Interval:
    """A mean and the two-sided t interval of :data:`CONFIDENCE` around it, of so many pairs."""

    mean: float
    low: float
    high: float
    pairs: int


def t_interval(differences: Sequence[float]) -> Interval | None:
    """mean ± t(0.975; n - 1) · s / sqrt(n), s the standard deviation of the n differences.

    None for less than two of them, which have no spread.

    Raises:
        ValueError: a difference is not finite.
    """
    if not all(map(math.isfinite, differences)):
        raise ValueError(f"differences must be finite, not {list(differences)}")
    count = len(differences)
    if count < 2:
        return None
    mean = statistics.fmean(differences)
    quantile = float(stdtrit(count - 1, (1 + CONFIDENCE) / 2))
    reach = quantile * statistics.stdev(differences) / math.sqrt(count)
    return Interval(mean, mean - reach, mean + reach, count)


def paired(values: Mapping[int, float], references: Mapping[int, float]) -> dict[int, float]:
    """value - reference of every seed that has both, in the order of the seeds."""
    return {seed: values[seed] - references[seed] for seed in sorted(values.keys() & references.keys())}


def verdict(interval: Interval | None, alike_within: float | None = None) -> Verdict:
    """What an interval says of a claim; of less than :data:`FEWEST_PAIRS` pairs nothing.

    A claim that a difference is positive is supported by an interval above 0 and contradicted by one below 0. A claim
    that two things are alike, which ``alike_within`` makes it, is supported by an interval inside ±alike_within, and
    contradicted by one outside.
    """
    if interval is None or interval.pairs < FEWEST_PAIRS:
        return NOT_ENOUGH
    if alike_within is None:
        supported, contradicted = interval.low > 0, interval.high < 0
    else:
        supported = -alike_within < interval.low and interval.high < alike_within
        contradicted = interval.low > alike_within or interval.high < -alike_within
    return "supported" if supported else "contradicted" if contradicted else "undecided"
