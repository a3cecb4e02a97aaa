"""A distributed sampler whose position can be saved: a resumed run gets exactly the batches that remain."""

from __future__ import annotations

from collections.abc import Iterator, Sized
from typing import Any

import torch
from torch.utils.data import Sampler


class ResumableDistributedSampler(Sampler[int]):
    """The indices of ``torch.utils.data.DistributedSampler``, from a saved position on.

    The permutation of an epoch is torch's, given ``seed + epoch``; the list is padded from its start to a multiple of
    ``num_replicas``, and rank r takes every ``num_replicas``-th index from r.

    The position counts samples that the *trainer* consumed: call :meth:`consumed` once per batch. What loader workers
    have prefetched does not count, so their number and prefetching make no difference. ``len`` is that of a whole
    epoch, also after a resume, because trainers count the batches of a resumed epoch from its start.
    With ``whole`` each rank has a multiple of so many samples, its last ones of the epoch left out: for batches of
    which a smaller last one is dropped.
    A dataset with ``set_epoch`` is told of every new epoch.
    """

    def __init__(
        self,
        dataset: Sized,
        *,
        num_replicas: int = 1,
        rank: int = 0,
        shuffle: bool = True,
        seed: int = 0,
        whole: int = 1,
    ) -> None:
        if not 0 <= rank < num_replicas:
            raise ValueError(f"rank must be in [0, {num_replicas}), not {rank}")
        self.dataset, self.num_replicas, self.rank, self.shuffle, self.seed = dataset, num_replicas, rank, shuffle, seed
        self.whole = whole
        self.epoch, self.position = 0, 0

    def __len__(self) -> int:
        return self._padded() // self.whole * self.whole

    def __iter__(self) -> Iterator[int]:
        return iter(self._indices()[self.position :])

    def _indices(self) -> list[int]:
        """Return this rank's indices of the whole epoch."""
        if self.shuffle:
            generator = torch.Generator().manual_seed(self.seed + self.epoch)
            order = torch.randperm(len(self.dataset), generator=generator)
        else:
            order = torch.arange(len(self.dataset))
        if not len(order):
            return []
        total = self._padded() * self.num_replicas
        padded = order.repeat(-(-total // len(order)))[:total]
        return padded[self.rank :: self.num_replicas][: len(self)].tolist()

    def _padded(self) -> int:
        """How many indices each rank has, none left out."""
        return -(-len(self.dataset) // self.num_replicas)

    def set_epoch(self, epoch: int) -> None:
        """Go to ``epoch``. A new epoch starts at position 0; the epoch of a loaded state keeps its position."""
        if epoch != self.epoch:
            self.epoch, self.position = epoch, 0
        if hasattr(self.dataset, "set_epoch"):
            self.dataset.set_epoch(epoch)

    def consumed(self, samples: int) -> None:
        """Record that the trainer has used ``samples`` more samples of this rank."""
        self.position = min(self.position + samples, len(self))

    def state_dict(self) -> dict[str, Any]:
        """Return the position; it is the same on every rank."""
        return {
            "epoch": self.epoch,
            "position": self.position,
            "seed": self.seed,
            "shuffle": self.shuffle,
            "num_replicas": self.num_replicas,
            "dataset_size": len(self.dataset),
        }

    def check(self, state: dict[str, Any], other_data: bool = False) -> None:
        """Whether a saved position can be gone to.

        Raises:
            ValueError: the state belongs to other data, unless that is meant (``other_data``), or to another number of
                processes; it names what differs. Or the epoch ends before the position.
        """
        own = self.state_dict()
        fixed = ("num_replicas", "seed", "shuffle", *(() if other_data else ("dataset_size",)))
        different = [f"{name} was {state[name]}, is {own[name]}" for name in fixed if state[name] != own[name]]
        if different:
            raise ValueError(
                f"cannot go on from the saved position in the training set: {'; '.join(different)}. Resume with the "
                "same data, the same seed and the same number of processes (num_replicas)"
            )
        if state["dataset_size"] != own["dataset_size"] and 0 < len(self) <= state["position"]:
            raise ValueError(
                f"it stands after {state['position']} samples of a process's epoch, which has {len(self)} now: give "
                "more rows, the checkpoint of an epoch's end, or start a new run from the weights"
            )

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go to a saved position.

        Raises:
            ValueError: as :meth:`check`, of any data.
        """
        self.check(state, other_data=True)
        self.epoch, self.position = int(state["epoch"]), int(state["position"])
        if hasattr(self.dataset, "set_epoch"):
            self.dataset.set_epoch(self.epoch)
