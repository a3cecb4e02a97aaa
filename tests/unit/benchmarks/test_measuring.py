"""Times alternate between the variants; memory is that of one variant in a process of its own."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

import pytest
import torch
from torch import Tensor, nn

from benchmarks import measuring
from benchmarks.baseline import Batch, Variant
from benchmarks.measuring import count_operations, time_steps
from benchmarks.memory import GIB, available_memory, measure_memory

FLOATS = 2**24  # 64 MiB
SMALL = 2**20  # 4 MiB: what glibc would keep when it is freed


class Square(nn.Module):
    """One weight; its square keeps as much for the backward. ``leak`` keeps 4 MiB more with every step."""

    def __init__(self, leak: bool = False) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(FLOATS))
        self.leaked: list[Tensor] | None = [] if leak else None

    def step(self, batch: Batch) -> Tensor:
        if self.leaked is not None:
            self.leaked.append(torch.ones(SMALL))
        return (self.weight + 1).square().sum()


def square() -> tuple[Variant, Batch]:
    model = Square()
    return Variant(model.step, {"all": [model]}), {}


def leaking() -> tuple[Variant, Batch]:
    model = Square(leak=True)
    return Variant(model.step, {"all": [model]}), {}


def freeing(blocks: int) -> tuple[Variant, Batch]:
    """Frees blocks of 4 MiB, each below one of 48 KiB that stays, before it takes 128 MiB."""
    kept: list[Tensor] = []
    weight = nn.Parameter(torch.ones(SMALL))

    def step(batch: Batch) -> Tensor:
        freed = []
        for _ in range(blocks):
            freed.append(torch.ones(SMALL))
            kept.append(torch.ones(12 * 1024))
        del freed
        return weight.sum() + torch.ones(32 * SMALL).sum()

    return Variant(step, {}), {}


def test_memory_tells_kept_activations_from_weights() -> None:
    memory = measure_memory(square, "cpu")
    assert memory.activations == 4 * FLOATS / GIB
    assert memory.peak > 3 * memory.activations  # they, the weight and its gradient
    assert memory.growth == pytest.approx(0, abs=0.001)


def test_accumulating_has_the_gradients_of_the_step_before() -> None:
    """So it begins with as much more."""
    memory = measure_memory(square, "cpu")
    assert memory.peak_accumulating - memory.peak == pytest.approx(4 * FLOATS / GIB, abs=0.002)


def test_what_grows_from_step_to_step_is_seen() -> None:
    assert measure_memory(leaking, "cpu").growth == pytest.approx(4 * SMALL / GIB, abs=0.001)


def test_freed_blocks_are_not_counted() -> None:
    with_blocks, without = (measure_memory(partial(freeing, blocks), "cpu") for blocks in (32, 0))
    assert with_blocks.peak == pytest.approx(without.peak, abs=0.01)


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


def noted(clock: Clock, ran: list[str], name: str, *seconds: float) -> Callable[[], None]:
    """A step that notes its name and how the random numbers stand."""
    run = clock.step(seconds)

    def step() -> None:
        ran.append(f"{name}{torch.initial_seed()}")
        run()

    return step


def test_steps_alternate_and_repetitions_have_a_seed(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock()
    ran: list[str] = []
    monkeypatch.setattr(measuring, "time", clock)
    steps = {"a": noted(clock, ran, "a", 1, 3, 2), "b": noted(clock, ran, "b", 4, 5, 6)}
    seconds = time_steps(steps, "cpu", budget=0, say=lambda _: None, repetitions=3)
    assert ran == ["a0", "b0", "b1", "a1", "a2", "b2"]
    assert seconds == {"a": [1, 3, 2], "b": [4, 5, 6]}


@pytest.mark.parametrize(("budget", "expected"), [(1, 3), (19, 3), (20, 4), (31, 5), (1000, 10)])
def test_repetitions_stop_before_the_budget_is_spent(
    monkeypatch: pytest.MonkeyPatch, budget: float, expected: int
) -> None:
    """Three at least, ten at most, and between them none that would end behind the budget."""
    clock = Clock()
    monkeypatch.setattr(measuring, "time", clock)
    said: list[str] = []
    seconds = time_steps({"a": clock.step([4, 6, 5, 5, 10, *[1] * 9])}, "cpu", budget, said.append)
    assert len(seconds["a"]) == expected
    assert said[0] == "time every step, repetition 1"


def test_one_repetition_may_be_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock()
    monkeypatch.setattr(measuring, "time", clock)
    assert time_steps({"a": clock.step([4])}, "cpu", 0, lambda _: None, repetitions=1) == {"a": [4]}


def test_operations_are_those_of_forward_and_backward() -> None:
    weight = nn.Parameter(torch.ones(3))

    def step() -> None:
        (weight * 2.0).sum().backward()

    def asking() -> None:
        step()
        assert bool(weight.gt(0).all())

    found = count_operations({"plain": step, "asking": asking}, "cpu", lambda _: None)
    assert found["plain"].total == 0 and found["asking"].found == {"_local_scalar_dense": 1}
    # The comparison, all() and reading its result.
    assert found["asking"].operations == found["plain"].operations + 3


def test_free_memory_is_read() -> None:
    assert 0 < available_memory("cpu") < 2**20
