"""One loader over a stream of images and a stream of regions: which batch is next, and where both stand.

Source: docs/official/xvlm.md §5.6.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np
import torch
from torch.utils.data import DataLoader

from vlp.data.collate import Batch
from vlp.data.jsonl.batches import RowBatches
from vlp.data.jsonl.lanes import Position
from vlp.data.read_guard import ReadGuard
from vlp.data.worker_signals import ignore_in_worker

IMAGES, REGIONS = "images", "regions"


def region_iterations(seed: int, epoch: int, steps: int, iter_perc: float) -> np.ndarray:
    """Which of an epoch's iterations have a batch of regions: bool (steps,), round(iter_perc steps) of them true.

    The official code tosses a coin in each iteration. Here the draw depends on nothing but the arguments, so that it is
    the same one on every process and after every resume.
    """
    chosen = np.zeros(steps, dtype=bool)
    chosen[random.Random(f"{seed}/{epoch}/regions").sample(range(steps), round(iter_perc * steps))] = True
    return chosen


def steps_of_epoch(rows: int, batch_size: int, processes: int) -> int:
    """Iterations of an epoch of ``rows`` texts, the last batch rounded up."""
    return -(-rows // (batch_size * processes))


class Turn(NamedTuple):
    """An optimiser step of an epoch: the stream of its batch, its iteration, and whether it is that one's last."""

    stream: str
    iteration: int
    last: bool


class Stream:
    """The batches of one stream for one process, and which of them have been used.

    Attributes:
        done: batches that have been used.
        positions: where each lane stands behind its last one.
    """

    def __init__(self, batches: RowBatches, workers: int, pin_memory: bool = False) -> None:
        """``workers``: of the loader, at most; as many as share the lanes evenly are used."""
        self.batches, self.pin_memory = batches, pin_memory
        self.done, self.positions = batches.first, list(batches.positions)
        lanes = len(self.positions)
        self.workers = max(count for count in range(min(workers, lanes) + 1) if count == 0 or lanes % count == 0)
        self._iterator: Iterator[Batch] | None = None

    def next(self) -> Batch:
        """The next batch that no one has been given."""
        if self._iterator is None:
            self._iterator = iter(
                DataLoader(
                    self.batches,
                    batch_size=None,
                    num_workers=self.workers,
                    collate_fn=_as_it_is,
                    worker_init_fn=ignore_in_worker,
                    pin_memory=self.pin_memory,
                    generator=torch.Generator(),  # of its own: it must not move the model's random stream
                )
            )
        return next(self._iterator)

    def consumed(self, batch: Batch) -> None:
        """Record that training has used a batch."""
        lane, position = batch["position"]
        self.positions[lane] = Position(*position)
        self.done += 1

    def stop(self) -> None:
        """End the loader's workers; what they have read ahead is read again."""
        self._iterator = None
        self.batches.first, self.batches.positions = self.done, list(self.positions)


class MixedLoader:
    """The batches of epochs: each iteration has one batch of images, those that are drawn one of regions before it.

    Its length is that of every epoch, ``steps`` and the drawn ones. With one stream alone each iteration has its batch.
    Streams go on from epoch to epoch. A batch also holds ``stream``, ``iteration`` (from 0 over the whole run) and
    ``ends_iteration``.

    Attributes:
        epoch, done: the epoch, and its batches that have been used.
    """

    def __init__(
        self,
        streams: Mapping[str, Stream],
        steps: int,
        seed: int,
        iter_perc: float = 0.0,
        epoch: int = 0,
        done: int = 0,
    ) -> None:
        self.streams, self.steps, self.seed, self.iter_perc = streams, steps, seed, iter_perc
        self.epoch, self.done = epoch, done
        self.dataset = _Guards(streams)

    def __len__(self) -> int:
        return self.steps + (round(self.iter_perc * self.steps) if len(self.streams) > 1 else 0)

    def __iter__(self) -> Iterator[Batch]:
        for stream, iteration, last in self.turns(self.epoch)[self.done :]:
            batch = self.streams[stream].next()
            yield {**batch, "stream": stream, "iteration": iteration, "ends_iteration": last}

    def turns(self, epoch: int) -> list[Turn]:
        """The steps of an epoch."""
        iterations = range(epoch * self.steps, (epoch + 1) * self.steps)
        if len(self.streams) == 1:
            return [Turn(stream, iteration, True) for stream in self.streams for iteration in iterations]
        chosen = region_iterations(self.seed, epoch, self.steps, self.iter_perc)
        return [
            turn
            for iteration, regions in zip(iterations, chosen, strict=True)
            for turn in ([Turn(REGIONS, iteration, False)] if regions else []) + [Turn(IMAGES, iteration, True)]
        ]

    def consumed(self, batch: Batch) -> None:
        """Record that training has used a batch."""
        self.streams[batch["stream"]].consumed(batch)
        self.done += 1
        if self.done == len(self):
            self.epoch, self.done = self.epoch + 1, 0


class _Guards:
    """What the streams count, under one roof: see :class:`~vlp.data.read_guard.Guarded`."""

    def __init__(self, streams: Mapping[str, Stream]) -> None:
        self._streams = streams

    @property
    def guards(self) -> dict[str, ReadGuard]:
        """The counts of each file or folder, under ``{stream}: {name}``."""
        return {
            f"{stream}: {name}": guard
            for stream, each in self._streams.items()
            for name, guard in each.batches.guards.items()
        }


def _as_it_is(batch: Any) -> Any:
    return batch
