"""Build Lightning's Trainer from the keys that METER and ViLT share (docs/official/meter.md §1.3, §1.4, §1.5, §1.6)."""

from __future__ import annotations

import os
import resource
import sys
import warnings
from collections.abc import Mapping
from typing import Any

import lightning as L
import torch
from lightning.fabric.plugins.environments import ClusterEnvironment, SLURMEnvironment, TorchElasticEnvironment
from lightning.pytorch.callbacks import LearningRateMonitor
from lightning.pytorch.strategies import DDPStrategy, Strategy

from vlp.checkpoint.atomic_io import AtomicCheckpointIO
from vlp.training.data_wait import DataWait, StepClock
from vlp.training.event_log import EventLog
from vlp.training.exact_state import ExactState
from vlp.training.finite_guard import FiniteGuard
from vlp.training.preemption import Preemption
from vlp.training.processes import NODE_VARIABLES, check_processes
from vlp.training.progress import progress_callback
from vlp.training.run_log import BestCheckpoint, JsonLinesLogger, LastCheckpoint
from vlp.training.skipped_images import SkippedImages

PRECISIONS = {32: "32-true", 16: "16-mixed", "16": "16-mixed", "bf16": "bf16-mixed", "32": "32-true"}


def prepare_process() -> None:
    """The official process settings: NCCL's log, and enough open files for the data workers."""
    # Official docs export them from a cluster's own, which leaves them empty elsewhere (docs/official/vilt.md §9).
    for name in NODE_VARIABLES:
        if os.environ.get(name) == "":
            del os.environ[name]
    # It is resumable: its sampler's position is in the checkpoint.
    warnings.filterwarnings("ignore", message=".*dataloader is not resumable")
    os.environ.setdefault("NCCL_DEBUG", "INFO")
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = 20480 if hard == resource.RLIM_INFINITY else min(20480, hard)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, wanted), hard))


def processes_per_node(config: Mapping[str, Any]) -> int:
    """``num_gpus`` is a number or a list of device ids."""
    devices = config["num_gpus"]
    return len(devices) if isinstance(devices, list | tuple) else int(devices)


def accumulation(config: Mapping[str, Any]) -> int:
    """Batches per optimiser step: max(batch_size // (per_gpu_batchsize x num_gpus x num_nodes), 1).

    Raises:
        ValueError: ``per_gpu_batchsize`` was not given.
    """
    if config["per_gpu_batchsize"] < 1:
        raise ValueError("per_gpu_batchsize must be given: the batch that fits one GPU, e.g. per_gpu_batchsize=32")
    per_step = config["per_gpu_batchsize"] * processes_per_node(config) * config["num_nodes"]
    return max(config["batch_size"] // per_step, 1)


def run_name(config: Mapping[str, Any]) -> str:
    """``{exp_name}_seed{seed}_from_{stem}``; the stem is the checkpoint's file name less its last five characters."""
    stem = str(config["load_path"]).split("/")[-1][:-5]
    return f"{config['exp_name']}_seed{config['seed']}_from_{stem}"


def build_trainer(
    config: Mapping[str, Any], has_validation: bool, environment: ClusterEnvironment | None = None
) -> L.Trainer:
    """The official Trainer settings in Lightning 2; without CUDA, processes run on the CPU with gloo.

    Args:
        has_validation: whether any dataset has a validation split (else the last checkpoint alone is kept).
        environment: of processes that another launcher (MPI) has started.

    Raises:
        ValueError: unknown precision, missing ``per_gpu_batchsize``, or processes that contradict the config.
    """
    if config["precision"] not in PRECISIONS:
        raise ValueError(f"precision={config['precision']!r}: choose 32, 'bf16' or 16")
    logger = EventLog(save_dir=config["log_dir"], name=run_name(config))
    max_steps = config["max_steps"]
    accelerator, devices = _devices(config)
    if environment is None and SLURMEnvironment.detect() and not TorchElasticEnvironment.detect():
        environment = SLURMEnvironment(auto_requeue=False)  # who waits for status 75 requeues, see Preemption
    strategy = _strategy(config, accelerator, environment)
    trainer = L.Trainer(
        accelerator=accelerator,
        devices=devices,
        num_nodes=config["num_nodes"],
        strategy=strategy,
        plugins=[AtomicCheckpointIO(), *([environment] if environment is not None and strategy == "auto" else [])],
        precision=PRECISIONS[config["precision"]],  # type: ignore[arg-type]
        benchmark=accelerator == "gpu",
        # Warn, not raise: SDPA's backward has no deterministic CUDA kernel.
        deterministic="warn" if accelerator == "gpu" else True,
        max_epochs=1000 if max_steps is not None else config["max_epoch"],
        max_steps=-1 if max_steps is None else max_steps,
        callbacks=_callbacks(config, has_validation),
        logger=[logger, JsonLinesLogger(logger.log_dir)],
        use_distributed_sampler=False,
        accumulate_grad_batches=accumulation(config),
        log_every_n_steps=config["log_every_n_steps"],
        fast_dev_run=config["fast_dev_run"],
        val_check_interval=config["val_check_interval"] if has_validation else 1.0,
        enable_model_summary=False,
        profiler=StepClock(),
        enable_progress_bar=sys.stdout.isatty(),
    )
    # Lightning has found out by now whether SLURM or torchrun started this process.
    found = environment or trainer._accelerator_connector.cluster_environment
    check_processes(found, processes_per_node(config), config["num_nodes"])
    return trainer


def _devices(config: Mapping[str, Any]) -> tuple[str, Any]:
    if torch.cuda.is_available():
        devices = config["num_gpus"]
        return "gpu", list(devices) if isinstance(devices, list | tuple) else devices
    processes = processes_per_node(config)
    if "OMP_NUM_THREADS" not in os.environ:
        # Each process would take every core; shared cores run slower than divided ones.
        torch.set_num_threads(max((os.cpu_count() or 1) // processes, 1))
    if os.environ.get("LOCAL_RANK", "0") == "0":
        print(f"no CUDA device: num_gpus={config['num_gpus']} runs {processes} process(es) on the CPU with gloo")
    return "cpu", processes


def _strategy(config: Mapping[str, Any], accelerator: str, environment: ClusterEnvironment | None) -> Strategy | str:
    if processes_per_node(config) * config["num_nodes"] == 1:
        return "auto"
    # CLIP's leftovers, the text pooler and unused heads never get a gradient.
    return DDPStrategy(
        find_unused_parameters=True,
        gradient_as_bucket_view=True,
        process_group_backend="nccl" if accelerator == "gpu" else "gloo",
        cluster_environment=environment,
    )


def _callbacks(config: Mapping[str, Any], has_validation: bool) -> list[L.Callback]:
    monitor: dict[str, Any] = {"monitor": "val/the_metric", "mode": "max"} if has_validation else {}
    last = LastCheckpoint(config["save_every_n_steps"])
    return [
        ExactState(),
        Preemption(last),
        FiniteGuard(),
        # At a validation's end its metric is that of this step.
        BestCheckpoint(save_top_k=1, verbose=True, save_on_train_epoch_end=not has_validation, **monitor),
        last,
        LearningRateMonitor(logging_interval="step"),
        DataWait(),
        SkippedImages(),
        progress_callback(),
    ]
