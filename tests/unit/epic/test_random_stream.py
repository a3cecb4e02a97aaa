"""One random stream per rank: distinct, resumable, apart from everything else."""

from __future__ import annotations

import pytest
import torch

from epic_common.random_stream import RandomStream

CPU = torch.device("cpu")


def draw(stream: RandomStream, count: int = 4) -> list[float]:
    return torch.rand(count, generator=stream.on(CPU)).tolist()


def test_every_seed_and_rank_has_its_own_numbers() -> None:
    # seeds that agree in their low 32 bits, which is all that the CPU generator looks at, included
    keys = [(seed, rank) for seed in (0, 1, 2, 2**32, 2**32 + 1) for rank in range(4)]
    assert len({tuple(draw(RandomStream(*key))) for key in keys}) == len(keys)


def test_the_same_key_draws_the_same_whatever_the_global_seed() -> None:
    torch.manual_seed(1)
    first = draw(RandomStream(3, 1))
    torch.manual_seed(2)
    before = torch.get_rng_state()
    assert draw(RandomStream(3, 1)) == first
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("done", [0, 1, 3])
def test_a_saved_state_goes_on_where_it_was_taken(done: int) -> None:
    stream = RandomStream(0, 0)
    for _ in range(done):
        draw(stream, 700)  # more than one block of the generator
    state = stream.state()
    rest = draw(stream)
    resumed = RandomStream(0, 0)
    resumed.set_state(state)
    assert torch.equal(resumed.state(), state)  # saved again before anything is drawn
    assert draw(resumed) == rest


def test_evaluation_repeats_itself_and_leaves_training_alone() -> None:
    stream = RandomStream(0, 0)
    draw(stream)
    state = stream.state()
    first, second = (torch.rand(4, generator=stream.evaluation(CPU)) for _ in range(2))
    assert torch.equal(first, second) and torch.equal(stream.state(), state)
    assert first.tolist() != draw(RandomStream(0, 0))


def test_a_state_of_another_device_is_refused() -> None:
    stream = RandomStream(0, 0)
    stream.set_state(torch.zeros(16, dtype=torch.uint8))  # the size of a CUDA generator's state
    with pytest.raises(ValueError, match="another kind of device"):
        stream.on(CPU)
