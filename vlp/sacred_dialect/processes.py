"""Refuse a start whose processes contradict the config, before they wait for each other.

Source: docs/official/meter.md §1.4.
"""

from __future__ import annotations

import os

from lightning.fabric.plugins.environments import ClusterEnvironment, LightningEnvironment

from vlp.training.trainer import NODE_VARIABLES

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


def check_processes(environment: ClusterEnvironment, per_node: int, nodes: int) -> None:
    """Check the variables of the launcher against ``num_gpus`` (``per_node``) and ``num_nodes``.

    Raises:
        ValueError: a missing variable, a node that cannot be, or a launcher that started another number of processes;
            the message names them.
    """
    if not isinstance(environment, LightningEnvironment):
        if environment.world_size() != per_node * nodes:
            raise ValueError(
                f"the launcher started {environment.world_size()} processes, but num_gpus={per_node} x "
                f"num_nodes={nodes} is {per_node * nodes}"
            )
        return
    # Lightning would take a port by chance and node 0 everywhere, and wait for the other nodes for ever.
    if nodes > 1 and (missing := [name for name in NODE_VARIABLES if not os.environ.get(name)]):
        raise ValueError(
            f"num_nodes={nodes}, but {', '.join(missing)} not set: export {', '.join(NODE_VARIABLES)} on every node"
        )
    node = os.environ.get("NODE_RANK", "0")
    if node not in map(str, range(nodes)):
        raise ValueError(f"NODE_RANK={node}, but num_nodes={nodes}: it must be one of 0 to {nodes - 1}")
