"""Seconds of a baseline's step variants, and the operations that they dispatch, computed for real."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping

import torch

from benchmarks.host_waits import HostWaits

LEAST, MOST = 3, 10  # repetitions, where their number is not given


def count_operations(
    steps: Mapping[str, Callable[[], object]], device: str, say: Callable[[str], None]
) -> dict[str, HostWaits]:
    """What each step dispatches; it warms the step up, too."""
    found = {name: HostWaits() for name in steps}
    for name, step in steps.items():
        say(f"count the operations of {name}")
        with found[name]:
            step()
    _wait(device)
    return found


def time_steps(
    steps: Mapping[str, Callable[[], object]],
    device: str,
    budget: float,
    say: Callable[[str], None],
    repetitions: int | None = None,
) -> dict[str, list[float]]:
    """Seconds of each step in every repetition; they have been run before.

    A repetition runs every step once, the next one in reverse order, so that a slower minute of the machine meets all
    of them, and all of a repetition draw from the same seed. Without ``repetitions`` there are as many as ``budget``
    seconds allow, but at least ``LEAST`` and at most ``MOST``.
    """
    seconds: dict[str, list[float]] = {name: [] for name in steps}
    started = time.perf_counter()
    order = list(steps)
    for done in range(repetitions or MOST):
        elapsed = time.perf_counter() - started
        if repetitions is None and done >= LEAST and elapsed * (done + 1) / done > budget:
            break
        say(f"time every step, repetition {done + 1}")
        for name in order:
            torch.manual_seed(done)
            seconds[name].append(_seconds(steps[name], device))
        order.reverse()
    return seconds


def _seconds(step: Callable[[], object], device: str) -> float:
    _wait(device)
    started = time.perf_counter()
    step()
    _wait(device)
    return time.perf_counter() - started


def _wait(device: str) -> None:
    if device == "cuda":
        torch.cuda.synchronize()
