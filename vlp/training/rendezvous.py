"""Wait for the other processes of a run, to a limit and not in silence."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from datetime import timedelta

import torch.distributed as dist
from lightning.fabric.plugins.environments import ClusterEnvironment

from vlp.progress import Pace, clock
from vlp.training.launch_variables import LIMIT, wait_limit


class MissingRanks(RuntimeError):
    """Processes of a run that have not come; names them."""


@contextmanager
def met(environment: ClusterEnvironment) -> Iterator[None]:
    """Begin the block, in which torch's own processes meet, when every process of the run is there; each must call it.

    Every process signs in where torch's own will meet, ``MASTER_ADDR:MASTER_PORT``, at rank 0 or torchrun.

    Raises:
        MissingRanks: some have not come within ``VLP_WAIT_FOR_RANKS`` seconds (600), or they cannot meet there.
    """
    if dist.is_initialized() or environment.world_size() == 1:
        yield
        return
    waiting = _Waiting(wait_limit(), environment.main_address, environment.main_port, environment.global_rank())
    try:
        store = waiting.signed_in(environment.world_size())
    except (dist.DistError, OSError) as error:
        said = str(error).splitlines()[0]
        raise MissingRanks(f"processes cannot meet at {waiting.place}, MASTER_ADDR:MASTER_PORT: {said}") from error
    yield
    del store  # no earlier: rank 0 keeps it for all


class _Waiting:
    def __init__(self, seconds: float, host: str, port: int, rank: int) -> None:
        self.seconds, self.host, self.port, self.rank = seconds, host, port, rank
        self.place = f"{host}:{port}"
        self._pace = Pace()

    def signed_in(self, count: int) -> dist.Store:
        """The store, once ``count`` processes have signed in."""
        torchrun = os.environ.get("TORCHELASTIC_USE_AGENT_STORE") == "True"  # its own store, older than this start
        master = self.rank == 0 and not torchrun
        if not master:
            who = f"torchrun at {self.place}" if torchrun else f"rank 0 at {self.place}"
            self.until(self.answered, lambda: who)
        store = dist.TCPStore(
            *(self.host, self.port, None, master),
            timeout=timedelta(seconds=max(self.left(), 1.0)),
            wait_for_workers=False,
            multi_tenant=True,  # torch will meet here, too
        )
        names = [f"vlp/{os.environ.get('TORCHELASTIC_RESTART_COUNT', 0)}/{rank}" for rank in range(count)]
        if store.add(names[self.rank], 1) > 1:
            raise MissingRanks(f"two processes are rank {self.rank} of {count}: look at what exports their ranks")

        missing = [*range(count)]

        def complete() -> bool:
            try:
                missing[:] = [rank for rank in missing if not store.check([names[rank]])]
            except dist.DistError:
                who = f"waiting for {_ranks(missing)} of {count}"
                raise MissingRanks(f"rank {self.rank} lost rank 0 at {self.place} while {who}") from None
            return not missing

        self.until(complete, lambda: f"{_ranks(missing)} of {count}, which are to come to {self.place}")
        return store

    def left(self) -> float:
        return self.seconds - self._pace.elapsed

    def answered(self) -> bool:
        """Whether something listens where processes meet."""
        try:
            socket.create_connection((self.host, self.port), timeout=max(min(self.left(), 5.0), 0.1)).close()
        except OSError:
            return False
        return True

    def until(self, true: Callable[[], bool], whom: Callable[[], str]) -> None:
        """Ask again and again; say for ``whom`` this process waits.

        Raises:
            MissingRanks: the time is over.
        """
        while not true():
            if self.left() <= 0:
                raise MissingRanks(
                    f"rank {self.rank} waited {self.seconds:g} s for {whom()}: look at how they ended, or start them; "
                    f"{LIMIT}=SECONDS waits longer"
                )
            if self._pace.due():
                print(f"rank {self.rank} waits for {whom()} … {clock(self._pace.elapsed)}", flush=True)
            time.sleep(min(0.2, max(self.left(), 0.0)))


def _ranks(missing: Iterable[int]) -> str:
    """ "rank 3", or "ranks 1, 4-7"."""
    parts = list[list[int]]()
    for rank in missing:
        if parts and parts[-1][-1] == rank - 1:
            parts[-1] = [parts[-1][0], rank]
        else:
            parts.append([rank])
    text = ", ".join("-".join(map(str, part)) for part in parts)
    return f"ranks {text}" if "," in text or "-" in text else f"rank {text}"
