"""The engine's Trainer for a configuration of METER or ViLT."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import lightning as L
from lightning.fabric.plugins.environments import ClusterEnvironment

from vlp.owner import Claim
from vlp.sacred_dialect.settings import answers_file, event_log, processes_per_node, trainer_settings
from vlp.training import trainer as engine
from vlp.training.launch_variables import check_variables
from vlp.training.processes import check_processes


def claims_of(config: Mapping[str, Any]) -> Iterator[Claim]:
    """The answers of an evaluation of VQAv2, which stand in ``log_dir`` itself."""
    if config["test_only"] and config["loss_names"].get("vqa", 0) > 0:
        answers = answers_file(config)
        yield Claim(answers.parent, answers.stem, "give another log_dir", f"writing {answers.name} into")


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
    settings, events = trainer_settings(config), event_log(config)
    trainer = engine.build_trainer(settings, events, has_validation, environment, claims=[*claims_of(config)])
    # Lightning has found out by now whether SLURM or torchrun started this process.
    found = trainer._accelerator_connector.cluster_environment
    check_processes(found, processes_per_node(config), config["num_nodes"])
    return trainer
