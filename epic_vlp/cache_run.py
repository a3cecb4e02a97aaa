"""What the builders of saliency caches share: how a run begins, divides what is missing, and ends."""

from __future__ import annotations

import datetime
import logging
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import lightning as L
from lightning.fabric.strategies import DDPStrategy

from epic_common.saliency_cache.reader import SaliencyCache
from epic_common.saliency_cache.writer import CacheWriter
from epic_vlp.parts import Config
from vlp.checkpoint.weights import WeightsError
from vlp.data.errors import DataError
from vlp.owner import Claim, HeldError, own
from vlp.training.processes import leave_processes
from vlp.training.rendezvous import MissingRanks, met
from vlp.versions import package_versions


def run_or_exit(build: Callable[[], None]) -> None:
    """Build a cache; what does not serve ends in one line and status 1."""
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stdout)
    try:
        build()
    except DataError as error:
        sys.exit(f"error: {error.plain}")
    except (WeightsError, FloatingPointError, MissingRanks, ValueError, OSError) as error:
        sys.exit(f"error: {error}")
    leave_processes()


def check_asked(config: Config) -> None:
    """Refuse a config that does not say what to build and from what.

    Raises:
        ValueError: naming the key.
    """
    for key, what in (("saliency_cache", "the folder to build"), ("teacher_path", "the checkpoint to compute it from")):
        if not config[key]:
            raise ValueError(f"{key} must be given: {what}")


class _WaitingDDP(DDPStrategy):
    def _setup_distributed(self) -> None:
        self._set_world_ranks()
        assert self.cluster_environment is not None
        with met(self.cluster_environment):
            super()._setup_distributed()


def new_fabric(cuda: bool, devices: Any, per_node: int, nodes: int, precision: Any) -> L.Fabric:
    """Processes that exchange nothing but when they are done.

    Args:
        devices: of a node, as Lightning takes them.
        per_node: processes of a node.
        precision: as Lightning names it.
    """
    timeout = datetime.timedelta(days=7)  # a process may have hours more to do than another
    return L.Fabric(
        accelerator="gpu" if cuda else "cpu",
        devices=devices,
        num_nodes=nodes,
        strategy="auto" if per_node * nodes == 1 else _WaitingDDP(process_group_backend="gloo", timeout=timeout),
        precision=precision,
    )


def launch_owner(fabric: L.Fabric, folder: str) -> None:
    """Start the processes, of which the first owns the cache's folder to their end.

    Raises:
        HeldError: others build there; on every process.
    """
    fabric.launch()
    refusal = ""
    if fabric.is_global_zero:
        try:
            own(Claim(Path(folder), "cache", "give another saliency_cache", "building"))
        except OSError as error:
            refusal = str(error)
    if refusal := fabric.broadcast(refusal):
        raise HeldError(refusal)


def report(cache: SaliencyCache) -> None:
    """Print how many pairs the cache has and its size."""
    facts, size = cache.manifest, cache.manifest["bytes"]
    print(
        f"saliency cache {cache.folder}: {facts['pairs']} distinct pairs, {facts['tokens']} tokens, "
        f"{size / 1e6:.1f} MB; {facts['skipped_pairs']} pairs left out, their images cannot be read"
    )


def build_missing(
    fabric: L.Fabric,
    writer: CacheWriter,
    chunks: int,
    config: Config,
    new_teacher: Callable[[], Any],
    write: Callable[[Any, Sequence[int]], None],
) -> None:
    """Let each process write its share of the chunks that are missing, and finish the cache when all are there.

    Args:
        chunks: of the whole cache.
        new_teacher: called by a process that has something to write.
        write: (teacher, on its device; the numbers of this process's chunks).
    """
    # One answer for all: a process that looks later might find chunks that another has written meanwhile.
    todo = fabric.broadcast(writer.missing())
    if len(todo) < chunks:
        fabric.print(f"{config['saliency_cache']}: {chunks - len(todo)} of {chunks} chunks are there already")
    if own := todo[fabric.global_rank :: fabric.world_size]:
        teacher = new_teacher()
        teacher.place(fabric.device)
        with fabric.autocast():
            write(teacher, own)
    fabric.barrier()
    if fabric.is_global_zero:
        report(writer.finish({"precision": config["precision"], "versions": package_versions()}))
