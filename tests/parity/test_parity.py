"""The committed fixtures through the same code as `python -m tests.parity`: one test per fixture and mode."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.parity.fixture import FIXTURES, PLAIN, TRAINING_PATH, Fixture
from tests.parity.runner import discover, modes, read, run

FULL_SIZE = 50_000_000  # values
# Of full-size fixtures: the objectives as they are trained, not once more the layers of plain passes.
QUICK_ONES = {("meter", "golden_pretrain_clip32_224", TRAINING_PATH), ("vilt", "golden_pretrain", TRAINING_PATH)}


def cases() -> Iterator[Any]:
    for path in discover([FIXTURES]):
        fixture, replay = read(path)
        full_size = size(fixture) > FULL_SIZE
        for mode in [PLAIN] if replay is None else modes(fixture, replay):
            name = f"{fixture.baseline}-{fixture.name}-{mode.replace(' ', '-')}"
            slow = full_size and (fixture.baseline, fixture.name, mode) not in QUICK_ONES
            yield pytest.param(path, mode, id=name, marks=[pytest.mark.slow] if slow else [])


def size(fixture: Fixture) -> int:
    """The number of values in a fixture's model, 0 without one."""
    return sum(math.prod(shape) for shape, _ in fixture.key_table().values()) if fixture.arch else 0


@pytest.mark.parametrize(("path", "mode"), cases())
def test_fixture_is_reproduced(path: Path, mode: str) -> None:
    fixture, replay = read(path)
    assert replay is not None, f"no replay for {fixture.baseline} {fixture.replay}"
    outcome = run(fixture, replay, mode)
    assert outcome.passed and not outcome.left_out, "\n".join(outcome.failures + outcome.left_out)
