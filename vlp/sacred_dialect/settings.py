"""From the keys of METER's and ViLT's configuration to the engine's settings.

Source: docs/official/meter.md §1.3, §1.4, §1.5, §1.6.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from vlp.training.event_log import EventLog
from vlp.training.settings import PRECISIONS, TrainerSettings


def processes_per_node(config: Mapping[str, Any]) -> int:
    """``num_gpus`` is a number or a list of device ids."""
    devices = config["num_gpus"]
    return len(devices) if isinstance(devices, list | tuple) else int(devices)


def accumulation(config: Mapping[str, Any]) -> int:
    """Batches per optimiser step: max(batch_size // (per_gpu_batchsize x num_gpus x num_nodes), 1)."""
    per_step = config["per_gpu_batchsize"] * processes_per_node(config) * config["num_nodes"]
    return max(config["batch_size"] // per_step, 1)


def run_name(config: Mapping[str, Any]) -> str:
    """``{exp_name}_seed{seed}_from_{stem}``; the stem is the checkpoint's file name less its last five characters."""
    return f"{config['exp_name']}_seed{config['seed']}_from_{_stem(config)}"


def answers_file(config: Mapping[str, Any]) -> Path:
    """Answers to VQAv2's questions for its evaluation server, ``{log_dir}/vqa_submit_{stem}.json``."""
    return Path(config["log_dir"]) / f"vqa_submit_{_stem(config)}.json"


def _stem(config: Mapping[str, Any]) -> str:
    return str(config["load_path"]).split("/")[-1][:-5]


def event_log(config: Mapping[str, Any]) -> EventLog:
    """TensorBoard's log in the run's folder, ``{log_dir}/{run_name}/version_{k}`` with the next free k."""
    return EventLog(save_dir=config["log_dir"], name=run_name(config))


def trainer_settings(config: Mapping[str, Any]) -> TrainerSettings:
    """The engine's settings of a resolved config that its schema allows."""
    devices, max_steps = config["num_gpus"], config["max_steps"]
    return TrainerSettings(
        devices=list(devices) if isinstance(devices, list | tuple) else devices,
        num_nodes=config["num_nodes"],
        precision=PRECISIONS[config["precision"]],
        matmul_precision=config["matmul_precision"],
        deterministic=config["deterministic"],
        max_steps=max_steps,
        # Officially max_epoch does not count where max_steps is set.
        max_epochs=1000 if max_steps is not None else config["max_epoch"],
        accumulate=accumulation(config),
        val_check_interval=config["val_check_interval"],
        monitor="val/the_metric",
        log_every=config["log_every_n_steps"],
        save_every=config["save_every_n_steps"],
        fast_dev_run=config["fast_dev_run"],
    )
