"""From the keys of ALBEF's and X-VLM's configuration to the engine's settings.

Source: docs/official/albef.md §1, §2.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from lightning.fabric.plugins.environments import ClusterEnvironment, SLURMEnvironment, TorchElasticEnvironment

from vlp.training.event_log import EventLog
from vlp.training.settings import PRECISIONS, TrainerSettings
from vlp.yaml_dialect.launch import Processes


def event_log(config: Mapping[str, Any]) -> EventLog:
    """TensorBoard's log in the run's folder, which is ``output_dir`` itself."""
    return EventLog(save_dir=config["output_dir"], name="", version="")


def trainer_settings(config: Mapping[str, Any], processes: Processes) -> TrainerSettings:
    """The engine's settings of a resolved config that its schema allows."""
    return TrainerSettings(
        devices=processes.per_node,
        num_nodes=processes.nodes,
        precision=PRECISIONS[config["precision"]],
        matmul_precision=config["matmul_precision"],
        deterministic=config["deterministic"],
        max_steps=config["max_steps"],
        max_epochs=config["schedular"]["epochs"],
        accumulate=1,
        val_check_interval=1.0,
        monitor=None,  # the official checkpoints are the best ones
        log_every=config["log_every_n_steps"],
        save_every=config["save_every_n_steps"],
        cpu=config["device"] == "cpu",
        equal_buffers=True,  # queues take the features of all processes
    )


def environment(processes: Processes) -> ClusterEnvironment | None:
    """How Lightning finds the processes of a launcher; None where there is one process."""
    if processes.launcher == "torchrun":
        return TorchElasticEnvironment()
    if processes.launcher == "slurm":
        os.environ.setdefault("SLURM_NTASKS", str(processes.total))
        # Lightning asks for it although --ntasks alone serves.
        os.environ.setdefault("SLURM_NTASKS_PER_NODE", str(processes.per_node))
        return SLURMEnvironment(auto_requeue=False)
    return None
