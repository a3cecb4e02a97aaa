"""METER under OpenMPI, one process per GPU (docs/official/meter.md §1.4), with the command line of run.py:

    mpirun -np <WORLD_SIZE> … python azure_distributed_run.py with data_root=… num_gpus=8 num_nodes=4 …
MASTER_ADDR and MASTER_PORT must be exported.
"""

from __future__ import annotations

import sys
from typing import Any

from meter.baseline import BASELINE
from vlp.sacred_dialect.command_line import launch
from vlp.sacred_dialect.run import run
from vlp.training.mpi import OpenMPIEnvironment


def run_under_mpi(config: dict[str, Any]) -> None:
    """One process that OpenMPI has started."""
    try:
        environment = OpenMPIEnvironment()
    except RuntimeError as error:
        sys.exit(f"error: {error}")
    run(BASELINE, config, environment)


if __name__ == "__main__":
    launch(BASELINE.experiment, run_under_mpi)
