"""Compiled blocks give eager losses and gradients, keep their names, and take tokens of any number."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch._dynamo import register_backend

from tests.unit.compiled import Counting, check_equal
from tests.unit.vilt.small import batch_of, vilt
from vilt.modules.vilt_module import ViLTransformerSS

LENGTHS = [[6, 4, 7], [9, 5, 4], [4, 4, 11], [3, 8, 8]]
SIZES = [[(3, 4), (2, 2), (1, 3)], [(2, 3), (2, 2), (3, 1)], [(3, 3), (1, 2), (2, 4)], [(1, 1), (3, 2), (2, 2)]]
BATCHES = [batch_of(lengths, sizes=sizes, seed=len(sizes)) for lengths, sizes in zip(LENGTHS, SIZES, strict=True)]


@pytest.fixture(autouse=True)
def fresh() -> Iterator[None]:
    torch._dynamo.reset()
    yield
    torch._dynamo.reset()


def pair_of(choice: str, **changes: Any) -> tuple[ViLTransformerSS, ViLTransformerSS]:
    """A compiled and an eager model of the same weights, in training mode without dropout."""
    compiled, eager = vilt(**{"compile": choice, **changes}), vilt(**changes)
    eager.load_state_dict(compiled.state_dict())
    return compiled.train(), eager.train()


def test_no_number_of_tokens_compiles_anew() -> None:
    """The second batch makes the sizes that differ from the first's symbols; after it there is nothing to compile."""
    counting = Counting()
    register_backend(counting, name="counting_vilt")
    compiled, eager = pair_of("counting_vilt")
    counts = []
    for batch in BATCHES:
        check_equal(compiled, eager, batch)
        counts.append(counting.graphs)
    assert counts[0] >= 2 and counts[1:] == counts[1:2] * 3


def test_every_block_is_compiled_and_keeps_its_names() -> None:
    compiled, eager = pair_of("aot_eager")
    assert all(block._compiled_call_impl is not None for block in compiled.transformer.blocks)
    assert list(compiled.state_dict()) == list(eager.state_dict())


@pytest.mark.slow
@pytest.mark.parametrize("checkpointing", [False, True])
def test_a_compiled_step_equals_an_eager_one(checkpointing: bool) -> None:
    compiled, eager = pair_of("aot_eager", gradient_checkpointing=checkpointing)
    for batch in BATCHES:
        check_equal(compiled, eager, batch)
