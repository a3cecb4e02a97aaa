"""The variables by which launchers tell a process of the others; read before anything large is imported."""

from __future__ import annotations

import os

NODE_VARIABLES = ("MASTER_ADDR", "MASTER_PORT", "NODE_RANK")
# What launchers export, and Lightning and torch read as numbers.
NUMBERS = ("MASTER_PORT", "NODE_RANK", "WORLD_SIZE", "RANK", "LOCAL_RANK", "SLURM_NTASKS", "SLURM_PROCID")


def check_variables() -> None:
    """Check the launcher's variables by themselves.

    Raises:
        ValueError: one is no number, or no port; names it.
    """
    for name in NUMBERS:
        value = os.environ.get(name)
        if value and not value.removeprefix("-").isdecimal():
            raise ValueError(f"{name}={value}: expected a whole number; look at what exports it")
    port = os.environ.get("MASTER_PORT")
    if port and not 0 < int(port) < 2**16:
        raise ValueError(f"MASTER_PORT={port}: expected a free port, 1 to 65535")
