"""Random states go through a checkpoint file, and sums over ranks are themselves where there is one rank."""

from __future__ import annotations

import random
from pathlib import Path

import numpy as np
import pytest
import torch

from vlp.distributed import gathered, sum_across_ranks
from vlp.training.rng import cuda_state, random_state, set_random_state

CPU = torch.device("cpu")


def draws() -> list[float]:
    return [random.random(), random.gauss(0, 1), np.random.random(), np.random.normal(), float(torch.rand(()))]


def test_a_saved_state_draws_the_same_again(tmp_path: Path) -> None:
    random.gauss(0, 1), np.random.normal()  # both keep a second normal number for the next call
    torch.save(random_state(CPU), tmp_path / "state.pt")
    first, second = draws(), draws()
    assert first != second
    set_random_state(torch.load(tmp_path / "state.pt", weights_only=True), CPU)
    assert [draws(), draws()] == [first, second]


class Gpus:
    """The generators of three GPUs, as torch.cuda gives their states."""

    def __init__(self) -> None:
        self.states = [torch.full((16,), i, dtype=torch.uint8) for i in range(3)]

    def get(self, device: torch.device) -> torch.Tensor:
        return self.states[device.index]

    def set(self, state: torch.Tensor, device: torch.device) -> None:
        self.states[device.index] = state


@pytest.fixture
def gpus(monkeypatch: pytest.MonkeyPatch) -> Gpus:
    gpus = Gpus()
    monkeypatch.setattr(torch.cuda, "get_rng_state", gpus.get)
    monkeypatch.setattr(torch.cuda, "set_rng_state", gpus.set)
    return gpus


def test_a_process_keeps_the_state_of_its_own_gpu_and_leaves_the_others_alone(gpus: Gpus) -> None:
    state = random_state(torch.device("cuda", 1))
    assert state["cuda"].tolist() == [1] * 16
    set_random_state(state, torch.device("cuda", 2))  # the same process, on another GPU now
    assert [int(own[0]) for own in gpus.states] == [0, 1, 1]


def test_a_checkpoint_with_the_states_of_all_gpus_gives_each_process_its_own(gpus: Gpus) -> None:
    state = {**random_state(CPU), "cuda": [torch.full((16,), 7 + i, dtype=torch.uint8) for i in range(2)]}
    set_random_state(state, torch.device("cuda", 1))
    assert [int(own[0]) for own in gpus.states] == [0, 8, 2]
    with pytest.raises(ValueError, match="random states of 2 GPUs, none of GPU 2"):
        set_random_state(state, torch.device("cuda", 2))


@pytest.mark.parametrize("earlier", [False, True])
def test_a_run_does_not_change_between_cpu_and_gpu_unnoticed(earlier: bool) -> None:
    own = torch.zeros(16, dtype=torch.uint8)
    with pytest.raises(ValueError, match="drew on a GPU, and this process runs on the CPU"):
        cuda_state({"cuda": [own] if earlier else own}, CPU)
    with pytest.raises(ValueError, match="drew on the CPU, and this process runs on a GPU"):
        cuda_state({"cuda": [] if earlier else None}, torch.device("cuda", 0))
    assert cuda_state({"cuda": [] if earlier else None}, CPU) is None


def test_one_process_is_all_ranks() -> None:
    value = torch.arange(3.0)
    assert sum_across_ranks(value) is value and value.tolist() == [0, 1, 2]
    assert gathered("state") == ["state"]
