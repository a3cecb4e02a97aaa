"""The processes of a run: torchrun, ``python -m torch.distributed.launch``, SLURM, or this one alone.

Source: docs/official/albef.md §1.
"""

from __future__ import annotations

import os
from typing import Literal, NamedTuple
from urllib.parse import urlsplit

from vlp.config.schema import ConfigError
from vlp.training.launch_variables import check_variables


class Processes(NamedTuple):
    """Those that a launcher has started.

    Attributes:
        launcher: "torchrun" for whatever sets its variables, "slurm", or None: there is one process.
        per_node: of each machine.
        nodes: machines.
    """

    launcher: Literal["torchrun", "slurm"] | None
    per_node: int
    nodes: int

    @property
    def total(self) -> int:
        return self.per_node * self.nodes


def find_processes(asked: int = 1) -> Processes:
    """What the variables of the launcher say; ``asked`` is ``--world_size``, which officially SLURM needs.

    Raises:
        ConfigError: variables that are no numbers, that lack one, or that do not divide into equal nodes.
    """
    try:
        check_variables()
    except ValueError as error:
        raise ConfigError(str(error)) from None
    if _set("RANK") and _set("WORLD_SIZE"):
        if not _set("LOCAL_RANK"):
            raise ConfigError("RANK and WORLD_SIZE are set, but LOCAL_RANK is not: start the script with torchrun")
        total = int(os.environ["WORLD_SIZE"])
        return _divided("torchrun", total, int(os.environ.get("LOCAL_WORLD_SIZE") or total))
    if _set("SLURM_PROCID") and os.environ.get("SLURM_JOB_NAME") not in ("bash", "interactive"):
        total = int(os.environ.get("SLURM_NTASKS") or asked)
        nodes = int(os.environ.get("SLURM_NNODES") or os.environ.get("SLURM_JOB_NUM_NODES") or 1)
        return _divided("slurm", total, -(-total // max(nodes, 1)))
    return Processes(None, 1, 1)


def world_size(asked: int, distributed: bool) -> int:
    """How many processes the run has.

    Args:
        asked: ``--world_size``; 1 where it is not given.
        distributed: ``--distributed``.

    Raises:
        ConfigError: the launcher and the flags contradict each other.
    """
    found = find_processes(asked)
    if asked not in (1, found.total):
        raise ConfigError(
            f"--world_size {asked}, but {found.total} process(es) were started: leave it out, and start them by "
            f"torchrun --nproc_per_node={asked}, or srun"
        )
    if not distributed and found.total > 1:
        raise ConfigError(f"--distributed False, but {found.total} processes were started: start the script alone")
    return found.total


def meeting_place(dist_url: str) -> tuple[str, int] | None:
    """Host and port of ``--dist_url tcp://HOST:PORT``; None for env://, which leaves them to the launcher.

    Raises:
        ConfigError: neither of the two.
    """
    if dist_url == "env://":
        return None
    try:
        place = urlsplit(dist_url)
        host, port = place.hostname, place.port
    except ValueError:
        host = port = None
    if not dist_url.startswith("tcp://") or not host or not port:
        raise ConfigError(f"--dist_url {dist_url}: expected env://, or tcp://HOST:PORT")
    return host, port


def set_meeting_place(dist_url: str) -> None:
    """Let ``--dist_url`` say where the processes meet.

    Raises:
        ConfigError: as :func:`meeting_place`.
    """
    if place := meeting_place(dist_url):
        os.environ["MASTER_ADDR"], os.environ["MASTER_PORT"] = place[0], str(place[1])


def _set(name: str) -> bool:
    return bool(os.environ.get(name))


def _divided(launcher: Literal["torchrun", "slurm"], total: int, per_node: int) -> Processes:
    if per_node < 1 or total % per_node:
        raise ConfigError(f"{total} processes, but {per_node} on this node: start as many on every node")
    return Processes(launcher, per_node, total // per_node)
