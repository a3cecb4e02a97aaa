"""Random states go through a checkpoint file, and sums over ranks are themselves where there is one rank."""

from __future__ import annotations

import random
from pathlib import Path

import numpy as np
import torch

from vlp.distributed import gathered, sum_across_ranks
from vlp.training.rng import random_state, set_random_state


def draws() -> list[float]:
    return [random.random(), random.gauss(0, 1), np.random.random(), np.random.normal(), float(torch.rand(()))]


def test_a_saved_state_draws_the_same_again(tmp_path: Path) -> None:
    random.gauss(0, 1), np.random.normal()  # both keep a second normal number for the next call
    torch.save(random_state(), tmp_path / "state.pt")
    first, second = draws(), draws()
    assert first != second
    set_random_state(torch.load(tmp_path / "state.pt", weights_only=True))
    assert [draws(), draws()] == [first, second]


def test_one_process_is_all_ranks() -> None:
    value = torch.arange(3.0)
    assert sum_across_ranks(value) is value and value.tolist() == [0, 1, 2]
    assert gathered("state") == ["state"]
