"""The variables by which launchers tell a process of the others; read before anything large is imported."""

from __future__ import annotations

import os

LIMIT = "VLP_WAIT_FOR_RANKS"  # seconds that a process waits for the others
NODE_VARIABLES = ("MASTER_ADDR", "MASTER_PORT", "NODE_RANK")
_ADVICE = "look at what exports them"
_OPENMPI = "OMPI_COMM_WORLD_"
# A process's or a node's number -> how many there are, where the launcher says so.
_RANKS = {
    "RANK": "WORLD_SIZE",
    "LOCAL_RANK": "LOCAL_WORLD_SIZE",
    "NODE_RANK": "",
    "SLURM_PROCID": "SLURM_NTASKS",
    "SLURM_LOCALID": "SLURM_NTASKS",
    "SLURM_NODEID": "SLURM_NNODES",
    f"{_OPENMPI}RANK": f"{_OPENMPI}SIZE",
    f"{_OPENMPI}LOCAL_RANK": f"{_OPENMPI}LOCAL_SIZE",
}
# Each variable that is a whole number -> the least that it may be.
NUMBERS = {
    **dict.fromkeys(filter(None, _RANKS.values()), 1),
    **dict.fromkeys(_RANKS, 0),
    **dict.fromkeys(("MASTER_PORT", "SLURM_JOB_NUM_NODES"), 1),
}
_MOST_DIGITS = 18


def is_first_process() -> bool:
    """Whether a launcher's variables call this process rank 0, as those of a process without a launcher do."""
    names = ("RANK", "SLURM_PROCID", "LOCAL_RANK", "NODE_RANK", f"{_OPENMPI}RANK")
    return all(os.environ.get(name) in (None, "", "0") for name in names)


def check_variables() -> None:
    """Check the launcher's variables by themselves and against each other.

    Raises:
        ValueError: one is no number, or no port, or a process is none of those that there are; names it.
    """
    wait_limit()
    numbers = {name: _number(name, least) for name, least in NUMBERS.items()}
    port = numbers["MASTER_PORT"]
    if port is not None and port >= 2**16:
        raise ValueError(f"MASTER_PORT={port}: expected a free port, 1 to 65535")
    for name, of in _RANKS.items():
        rank, count = numbers[name], numbers.get(of)
        if rank is not None and count is not None and rank >= count:
            raise ValueError(f"{name}={rank}, but {of}={count}: ranks count from 0 to {count - 1}; {_ADVICE}")
    rank, local, world, here = map(numbers.get, ("RANK", "LOCAL_RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE"))
    if rank is not None and world is None:
        raise ValueError(f"RANK={rank}, but WORLD_SIZE is not set: unset RANK, or start the script with torchrun")
    if world is not None and max(here or 0, (local or 0) + 1) > world:
        what = f"LOCAL_RANK={local}" if here is None or here <= world else f"LOCAL_WORLD_SIZE={here}"
        raise ValueError(f"{what}, but WORLD_SIZE={world} is the number of all processes; {_ADVICE}")
    if rank is not None and here is not None and local not in (None, rank % here):
        raise ValueError(f"LOCAL_RANK={local}, but RANK={rank} is {rank % here} of {here} on its node; {_ADVICE}")


def _number(name: str, least: int) -> int | None:
    """The value of a variable; None where it is not set, or empty."""
    value = os.environ.get(name)
    if not value:
        return None
    if not value.removeprefix("-").isdecimal() or len(value) > _MOST_DIGITS:
        raise ValueError(f"{name}={value[:80]}: expected a whole number; {_ADVICE}")
    if int(value) < least:
        raise ValueError(f"{name}={value}: expected at least {least}; {_ADVICE}")
    return int(value)


def wait_limit() -> float:
    """Seconds to wait for other processes.

    Raises:
        ValueError: the variable is no positive number.
    """
    text = os.environ.get(LIMIT) or "600"
    try:
        seconds = float(text)
    except ValueError:
        seconds = 0.0
    if not 0 < seconds < 1e7:
        raise ValueError(f"{LIMIT}={text[:80]}: expected seconds, more than 0")
    return seconds
