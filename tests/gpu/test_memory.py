"""The peak memory of a step on a GPU is no more than was measured on a CPU."""

from __future__ import annotations

import json

import pytest

from benchmarks.cost import MEASURED
from benchmarks.measuring import available_memory, measure_memory
from tests.gpu.marks import ON_GPU
from tests.gpu.numbers import BUILDERS, VARIANTS

pytestmark = ON_GPU
# What a CPU does not need: workspaces of cuBLAS and cuDNN, and blocks of the allocator that are not filled.
SHARE, GIB = 1.1, 0.5


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("name", BUILDERS)
def test_peak(name: str, variant: str) -> None:
    measured = json.loads((MEASURED / f"{name}_official.json").read_text(encoding="utf-8"))
    bound = SHARE * measured["peak_gib"][variant] + GIB
    if (free := available_memory("cuda")) < bound:
        pytest.skip(f"{bound:.1f} GiB are needed, {free:.1f} are free")
    lengths = measured["settings"]["timed_tokens"]
    found = measure_memory(BUILDERS[name], "official", "cuda", variant, lengths)
    assert found.peak <= bound
