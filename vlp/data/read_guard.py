"""Images that cannot be read: they are counted and logged, and beyond a limit the run stops."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Protocol, runtime_checkable

import torch
from torch.utils.data import get_worker_info

from vlp.data.errors import DataError

logger = logging.getLogger(__name__)
_SLOTS = 256
ARROW_ADVICE = "run `python -m vlp.data.arrow check` on data_root and convert again with --verify-images"


class ReadGuard:
    """Counts reads and failures of one dataset, over all loader workers of this rank.

    In training a failure is logged (the first five of each worker, then every hundredth) and the caller takes the
    next row. The run stops when the share of failures exceeds ``max_share`` after at least ``min_reads`` reads, or
    after ``max_consecutive`` failures in a row in one worker. With ``strict`` (evaluation) the first failure stops it:
    a score over replaced samples would be a score of something else.
    """

    def __init__(
        self,
        name: str,
        strict: bool,
        max_share: float = 0.01,
        min_reads: int = 1000,
        max_consecutive: int = 20,
        advice: str = ARROW_ADVICE,
        what: str = "image",
    ) -> None:
        """``what`` is read, for messages."""
        self.name, self.strict, self.advice, self.what = name, strict, advice, what
        self.max_share, self.min_reads, self.max_consecutive = max_share, min_reads, max_consecutive
        self._consecutive = 0
        # Reads and failures, a slot per worker: shared with the workers, and no two of them write the same slot.
        self._counts = torch.zeros(_SLOTS, 2, dtype=torch.int64).share_memory_()

    @property
    def reads(self) -> int:
        """Images read so far by all workers."""
        return int(self._counts[:, 0].sum())

    @property
    def failures(self) -> int:
        """Images among them that could not be read."""
        return int(self._counts[:, 1].sum())

    def success(self) -> None:
        """Count a read that went well."""
        self._consecutive = 0
        self._slot()[0] += 1

    def failure(self, where: str, error: Exception) -> None:
        """Count a read that failed at ``where``.

        Raises:
            DataError: strict, or one of the limits is exceeded.
        """
        slot = self._slot()
        slot += 1
        self._consecutive += 1
        text = f"dataset {self.name}: cannot read the {self.what} at {where}: {error}"
        if self.strict:
            raise DataError(f"{text}; an evaluation must see every sample: {self.advice}") from error
        count = int(slot[1])
        if count <= 5 or count % 100 == 0:
            logger.warning("%s; another one is taken instead (failure %d of this worker)", text, count)
        reads, failures = self.reads, self.failures
        if self._consecutive >= self.max_consecutive:
            raise DataError(
                f"{text}; {self._consecutive} {self.what}s in a row failed: the data is broken, {self.advice}"
            ) from error
        if reads >= self.min_reads and failures > self.max_share * reads:
            share = f"{failures} of {reads} {self.what}s failed (limit {self.max_share:.1%})"
            raise DataError(f"{text}; {share}: {self.advice}") from error

    def _slot(self) -> torch.Tensor:
        worker = get_worker_info()
        return self._counts[0 if worker is None else 1 + worker.id % (_SLOTS - 1)]


@runtime_checkable
class Guarded(Protocol):
    """A data set that counts what it could not read."""

    @property
    def guards(self) -> Mapping[str, ReadGuard]:
        """The count of images read and not readable, by the name of a part."""
