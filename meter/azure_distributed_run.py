"""METER under OpenMPI, one process per GPU (docs/official/meter.md §1.4), with the command line of run.py:

    mpirun -np <WORLD_SIZE> … python azure_distributed_run.py with data_root=… num_gpus=8 num_nodes=4 …
MASTER_ADDR and MASTER_PORT must be exported.
"""

from __future__ import annotations

import sys
from typing import Any

from meter.config import MeterKeys, ex
from vlp.sacred_dialect.command_line import launch


def main(config: dict[str, Any]) -> None:
    """One process that OpenMPI has started; imports the model only for a configuration that can run."""
    from meter.baseline import BASELINE
    from vlp.sacred_dialect.run import run
    from vlp.training.mpi import OpenMPIEnvironment

    try:
        environment = OpenMPIEnvironment()
    except RuntimeError as error:
        sys.exit(f"error: {error}")
    run(BASELINE, config, environment)


if __name__ == "__main__":
    launch(ex, MeterKeys, main)
