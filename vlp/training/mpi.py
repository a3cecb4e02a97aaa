"""Lightning's view of processes that OpenMPI has started (docs/official/meter.md §1.4)."""

from __future__ import annotations

import os

from lightning.fabric.plugins.environments import ClusterEnvironment

from vlp.training.launch_variables import check_variables


class OpenMPIEnvironment(ClusterEnvironment):
    """World size and ranks from ``OMPI_COMM_WORLD_*``, the address from ``MASTER_ADDR`` and ``MASTER_PORT``.

    OpenMPI's ``…_NODE_RANK`` is the rank of a process WITHIN its node, so the node's index is derived instead.

    Raises:
        RuntimeError: a variable is missing or wrong, naming it.
    """

    def __init__(self) -> None:
        needed = ["MASTER_ADDR", "MASTER_PORT", *(f"OMPI_COMM_WORLD_{name}" for name in ("SIZE", "RANK", "LOCAL_RANK"))]
        if missing := [name for name in (*needed, "OMPI_COMM_WORLD_LOCAL_SIZE") if name not in os.environ]:
            raise RuntimeError(f"{', '.join(missing)} not set: start this script with mpirun, one process per GPU")
        try:
            check_variables()
        except ValueError as error:
            raise RuntimeError(str(error)) from None
        os.environ["WORLD_SIZE"] = os.environ["OMPI_COMM_WORLD_SIZE"]
        os.environ["NODE_RANK"] = str(self.node_rank())

    @property
    def creates_processes_externally(self) -> bool:
        return True

    @property
    def main_address(self) -> str:
        return os.environ["MASTER_ADDR"]

    @property
    def main_port(self) -> int:
        return int(os.environ["MASTER_PORT"])

    @staticmethod
    def detect() -> bool:
        """Never chosen by itself: azure_distributed_run.py asks for it."""
        return False

    def world_size(self) -> int:
        return int(os.environ["OMPI_COMM_WORLD_SIZE"])

    def set_world_size(self, size: int) -> None:
        """OpenMPI has set it."""

    def global_rank(self) -> int:
        return int(os.environ["OMPI_COMM_WORLD_RANK"])

    def set_global_rank(self, rank: int) -> None:
        """OpenMPI has set it."""

    def local_rank(self) -> int:
        return int(os.environ["OMPI_COMM_WORLD_LOCAL_RANK"])

    def node_rank(self) -> int:
        return self.global_rank() // int(os.environ["OMPI_COMM_WORLD_LOCAL_SIZE"])
