"""The start and the end of a run's processes: a start that contradicts the config is refused before they wait.

Source: docs/official/meter.md §1.4.
"""

from __future__ import annotations

import os

import torch.distributed as dist
from lightning.fabric.plugins.environments import ClusterEnvironment, LightningEnvironment

from vlp.training.launch_variables import NODE_VARIABLES


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


def leave_processes() -> None:
    """End this process's part of the group after a complete run.

    A thread of gloo or NCCL that still runs when the interpreter ends can abort the process, and so fail the run.
    """
    if dist.is_available() and dist.is_initialized():
        dist.destroy_process_group()
