"""A step of official size on a GPU, in every precision and compiled, against the CPU's float32."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import pytest
from torch import Tensor

from benchmarks.arrow_steps import ArrowSteps
from tests.gpu.marks import ON_GPU
from tests.gpu.numbers import (
    BUILDERS,
    ROUNDOFF,
    VARIANTS,
    Numbers,
    Precision,
    built,
    check_close,
    check_compiled,
    numbers,
)

pytestmark = ON_GPU


class Case(NamedTuple):
    """A baseline on the GPU, and by variant what the CPU computed and drew."""

    steps: ArrowSteps
    expected: dict[str, tuple[Numbers, list[Tensor]]]


@pytest.fixture(scope="module", params=BUILDERS)
def case(request: pytest.FixtureRequest) -> Iterator[Case]:
    build = BUILDERS[request.param]
    on_cpu = built(build, "official", "cpu")
    expected = {variant: numbers(on_cpu, variant, "fp32") for variant in VARIANTS}
    del on_cpu
    yield Case(built(build, "official", "cuda"), expected)


@pytest.mark.parametrize("precision", ROUNDOFF)
@pytest.mark.parametrize("variant", VARIANTS)
def test_a_step_has_the_numbers_of_the_cpu(variant: str, precision: Precision, case: Case) -> None:
    expected, drawn = case.expected[variant]
    found, _ = numbers(case.steps, variant, precision, drawn)
    check_close(found, expected, precision)


@pytest.mark.parametrize("name", BUILDERS)
def test_compiled_layers_have_the_numbers_of_the_others(name: str) -> None:
    check_compiled(built(BUILDERS[name], "official", "cuda"), True)
