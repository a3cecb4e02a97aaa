"""The resumable sampler against torch's, and a resumed run against one that was not interrupted."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.utils.data import DataLoader, Dataset, DistributedSampler

from vlp.data.samplers import ResumableDistributedSampler


class Numbers(Dataset[int]):
    """0 … n-1; remembers the epoch that it is told."""

    def __init__(self, n: int) -> None:
        self.n, self.epoch = n, -1

    def __len__(self) -> int:
        return self.n

    def __getitem__(self, index: int) -> int:
        return index

    def set_epoch(self, epoch: int) -> None:
        self.epoch = epoch


@settings(max_examples=100, deadline=None)
@given(
    n=st.integers(1, 30),
    world=st.integers(1, 5),
    shuffle=st.booleans(),
    seed=st.integers(0, 9),
    epoch=st.integers(0, 3),
)
def test_the_indices_are_those_of_torch(n: int, world: int, shuffle: bool, seed: int, epoch: int) -> None:
    for rank in range(world):
        data = Numbers(n)
        official: DistributedSampler[int] = DistributedSampler(data, world, rank, shuffle, seed)
        ours = ResumableDistributedSampler(data, num_replicas=world, rank=rank, shuffle=shuffle, seed=seed)
        official.set_epoch(epoch)
        ours.set_epoch(epoch)
        assert list(ours) == list(official) and len(ours) == len(official)


class Run:
    """A trainer that counts what it consumes."""

    def __init__(self, rank: int, workers: int, world: int = 2, n: int = 23) -> None:
        self.data = Numbers(n)
        self.sampler = ResumableDistributedSampler(self.data, num_replicas=world, rank=rank, seed=3)
        self.loader = DataLoader(
            self.data,
            batch_size=4,
            sampler=self.sampler,
            num_workers=workers,
            prefetch_factor=2 if workers else None,
        )

    def batches(self, first_epoch: int = 0, epochs: int = 3) -> Iterator[tuple[int, list[int]]]:
        for epoch in range(first_epoch, epochs):
            self.sampler.set_epoch(epoch)
            for batch in self.loader:
                self.sampler.consumed(len(batch))
                yield epoch, batch.tolist()


@pytest.mark.parametrize("rank", [0, 1])
@pytest.mark.parametrize("stop", [0, 1, 2, 3, 4, 8])  # three batches an epoch: within, at and across its end
def test_a_resumed_run_gets_exactly_what_remains(rank: int, stop: int) -> None:
    expected = list(Run(rank, workers=0).batches())
    assert len(expected) == 9
    run = Run(rank, workers=0)
    iterator = run.batches()
    done = [next(iterator) for _ in range(stop)]
    state = torch.utils.data.default_convert(run.sampler.state_dict())
    resumed = Run(rank, workers=0)
    resumed.sampler.load_state_dict(state)
    assert resumed.data.epoch == max(0, (stop - 1) // 3)
    assert done + list(resumed.batches(resumed.sampler.epoch)) == expected


def test_prefetched_batches_do_not_count() -> None:
    expected = list(Run(0, workers=0).batches())
    run = Run(0, workers=2)  # by the second batch the workers have asked the sampler for all the others
    iterator = run.batches()
    done = [next(iterator), next(iterator)]
    assert run.sampler.state_dict()["position"] == 8
    resumed = Run(0, workers=1)
    resumed.sampler.load_state_dict(run.sampler.state_dict())
    assert done + list(resumed.batches()) == expected


def test_the_state_is_the_same_on_every_rank_and_plain() -> None:
    states = []
    for rank in (0, 1):
        run = Run(rank, workers=0)
        next(run.batches())
        states.append(run.sampler.state_dict())
    assert states[0] == states[1]
    assert {type(value) for value in states[0].values()} <= {int, bool}


def test_a_state_of_something_else_is_refused() -> None:
    state = Run(0, workers=0).sampler.state_dict()
    with pytest.raises(ValueError, match="num_replicas was 2, is 3"):
        Run(0, workers=0, world=3).sampler.load_state_dict(state)
    with pytest.raises(ValueError, match="dataset_size was 23, is 24"):
        Run(0, workers=0, n=24).sampler.check(state)
    Run(0, workers=0, n=24).sampler.check({**state, "position": 8}, other_data=True)
    with pytest.raises(ValueError, match="it stands after 8 samples of a process's epoch, which has 8 now"):
        Run(0, workers=0, n=16).sampler.check({**state, "position": 8}, other_data=True)


def test_the_length_is_that_of_the_epoch_after_a_resume() -> None:
    run = Run(0, workers=0)
    run.sampler.consumed(8)
    assert (len(run.loader), len(list(run.loader))) == (3, 1)


def test_an_empty_dataset_and_a_wrong_rank() -> None:
    assert list(ResumableDistributedSampler(Numbers(0), num_replicas=2, rank=1)) == []
    with pytest.raises(ValueError, match="rank"):
        ResumableDistributedSampler(Numbers(3), num_replicas=2, rank=2)


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 60), st.integers(1, 4), st.integers(1, 9), st.integers(0, 3))
def test_whole_batches_are_the_first_ones_of_the_epoch(n: int, world: int, whole: int, epoch: int) -> None:
    for rank in range(world):
        every, cut = (
            ResumableDistributedSampler(Numbers(n), num_replicas=world, rank=rank, seed=1, whole=batch)
            for batch in (1, whole)
        )
        for sampler in (every, cut):
            sampler.set_epoch(epoch)
        assert len(cut) == len(every) // whole * whole
        assert list(cut) == list(every)[: len(cut)]
        cut.consumed(len(cut))
        assert list(cut) == []
