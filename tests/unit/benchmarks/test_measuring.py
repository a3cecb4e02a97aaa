"""Times alternate between the variants; memory is that of one variant in a process of its own."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import pytest
import torch
from torch import nn

from benchmarks import measuring
from benchmarks.baseline import Batch, Steps, Variant
from benchmarks.measuring import GIB, available_memory, measure_memory, time_steps

FLOATS = 2**24  # 64 MiB


class Square(Steps):
    """One weight; its square keeps as much for the backward."""

    text_family, max_text_len = "roberta", 8

    def __init__(self, size: str, device: str = "cpu") -> None:
        self.weight = nn.Parameter(torch.ones(FLOATS))

    def variant(self, name: str) -> Variant:
        return Variant(lambda batch: (self.weight + 1).square().sum(), {})

    def batch(self, lengths: Sequence[int]) -> Batch:
        return {}


def test_memory_tells_kept_activations_from_weights() -> None:
    memory = measure_memory(Square, "tiny", "cpu", "vanilla", [3])
    assert memory.activations == 4 * FLOATS / GIB
    assert memory.peak > 3 * memory.activations  # they, the weight and its gradient


class Clock:
    """Stands in for the module ``time``; steps move it on."""

    def __init__(self) -> None:
        self.now = 0.0

    def perf_counter(self) -> float:
        return self.now

    def step(self, seconds: Sequence[float]) -> Callable[[], None]:
        left = iter(seconds)

        def run() -> None:
            self.now += next(left)

        return run


def test_steps_alternate_and_the_warm_up_does_not_count(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock()
    ran: list[str] = []
    monkeypatch.setattr(measuring, "time", clock)

    def noted(name: str, *seconds: float) -> Callable[[], None]:
        run = clock.step(seconds)

        def step() -> None:
            ran.append(name)
            run()

        return step

    steps = {"a": noted("a", 9, 1, 3, 2), "b": noted("b", 5, 4, 4, 6)}
    seconds, repetitions = time_steps(steps, "cpu", budget=100, say=lambda _: None, most=3)
    assert "".join(ran) == "abbaabba" and repetitions == 3
    assert seconds == {"a": 2, "b": 4}


@pytest.mark.parametrize(("budget", "expected"), [(10, (7, 1)), (15, (6, 1)), (20, (5, 2))])
def test_repetitions_stop_before_the_budget_is_spent(
    monkeypatch: pytest.MonkeyPatch, budget: float, expected: tuple[float, int]
) -> None:
    clock = Clock()
    monkeypatch.setattr(measuring, "time", clock)
    said: list[str] = []
    seconds, repetitions = time_steps({"a": clock.step([7, 6, 4, 9])}, "cpu", budget, said.append)
    assert (seconds["a"], repetitions) == expected
    assert said[0] == "time every step, warm-up"


def test_free_memory_is_read() -> None:
    assert 0 < available_memory("cpu") < 2**20
