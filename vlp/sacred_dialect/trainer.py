"""The engine's Trainer for a configuration of METER or ViLT."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import lightning as L
from lightning.fabric.plugins.environments import ClusterEnvironment

from vlp.sacred_dialect.settings import event_log, processes_per_node, trainer_settings
from vlp.training import trainer as engine
from vlp.training.launch_variables import check_variables
from vlp.training.processes import check_processes


def build_trainer(
    config: Mapping[str, Any], has_validation: bool, environment: ClusterEnvironment | None = None
) -> L.Trainer:
    """The Trainer of a resolved config, in the run's folder.

    Args:
        has_validation: whether any dataset has a validation split.
        environment: of processes that another launcher (MPI) has started.

    Raises:
        ValueError: variables of a launcher that are no numbers, or processes that contradict the config.
    """
    check_variables()
    trainer = engine.build_trainer(trainer_settings(config), event_log(config), has_validation, environment)
    # Lightning has found out by now whether SLURM or torchrun started this process.
    found = trainer._accelerator_connector.cluster_environment
    check_processes(found, processes_per_node(config), config["num_nodes"])
    return trainer
