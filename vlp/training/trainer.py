"""Build Lightning's Trainer of a run: its processes, and the callbacks that every run has."""

from __future__ import annotations

import os
import resource
import sys
from collections.abc import Sequence

import lightning as L
import torch
from lightning.fabric.plugins.environments import ClusterEnvironment, SLURMEnvironment, TorchElasticEnvironment
from lightning.pytorch.strategies import Strategy

from vlp.checkpoint.atomic_io import AtomicCheckpointIO
from vlp.owner import Claim
from vlp.quiet_libraries import quiet_libraries
from vlp.training.data_wait import DataWait, StepClock
from vlp.training.event_log import EventLog
from vlp.training.exact_state import ExactState
from vlp.training.finite_guard import FiniteGuard
from vlp.training.launch_variables import NODE_VARIABLES
from vlp.training.learning_rates import OwnRates, RateLog
from vlp.training.matmul import set_matmul_precision
from vlp.training.preemption import Preemption
from vlp.training.progress import progress_callback
from vlp.training.run_folder import RunFolder
from vlp.training.run_log import BestCheckpoint, LastCheckpoint
from vlp.training.settings import TrainerSettings
from vlp.training.skipped_images import SkippedImages


def prepare_process() -> None:
    """Set up this process as officially: NCCL's log, open files for data workers; empty node variables are unset."""
    # Official docs export them from a cluster's own, which leaves them empty elsewhere (docs/official/vilt.md §9).
    for name in NODE_VARIABLES:
        if os.environ.get(name) == "":
            del os.environ[name]
    quiet_libraries()
    os.environ.setdefault("NCCL_DEBUG", "INFO")
    # transformers 5.25 would fetch other kernels from the hub at a change of mode, which are not equal to the bit.
    os.environ.setdefault("USE_HUB_KERNELS", "NO")
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = 20480 if hard == resource.RLIM_INFINITY else min(20480, hard)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, wanted), hard))


def build_trainer(
    settings: TrainerSettings,
    logger: EventLog,
    has_validation: bool,
    environment: ClusterEnvironment | None = None,
    callbacks: Sequence[L.Callback] = (),
    claims: Sequence[Claim] = (),
) -> L.Trainer:
    """The Trainer of a run; without CUDA, its processes run on the CPU with gloo.

    Args:
        logger: its folder is the run's.
        has_validation: whether there is a validation set (else the last checkpoint alone is kept).
        environment: of processes that another launcher (MPI) has started.
        callbacks: of a dialect, beside those of every run.
        claims: on files that the run writes outside its folder.

    Raises:
        HeldError: another run owns the folder, or has one of ``claims``.
    """
    accelerator, devices = _devices(settings)
    if accelerator == "gpu":
        set_matmul_precision(settings.matmul_precision)
    deterministic = accelerator == "cpu" if settings.deterministic is None else settings.deterministic
    if environment is None and SLURMEnvironment.detect() and not TorchElasticEnvironment.detect():
        environment = SLURMEnvironment(auto_requeue=False)  # who waits for status 75 requeues, see Preemption
    strategy, plugin = _strategy(settings, accelerator, environment), settings.precision_plugin
    folder = RunFolder(claims)
    trainer = L.Trainer(
        accelerator=accelerator,
        devices=devices,
        num_nodes=settings.num_nodes,
        strategy=strategy,
        plugins=[
            AtomicCheckpointIO(),
            *([environment] if environment is not None and strategy == "auto" else []),
            *([plugin] if plugin is not None else []),
        ],
        precision=settings.precision if plugin is None else None,
        gradient_clip_val=settings.clip_norm or None,
        sync_batchnorm=settings.sync_batchnorm,
        # cuDNN's search for the fastest kernel may end with another one in every run.
        benchmark=accelerator == "gpu" and not deterministic,
        deterministic=deterministic,
        max_epochs=settings.max_epochs,
        max_steps=-1 if settings.max_steps is None else settings.max_steps,
        callbacks=[folder, *_callbacks(settings, has_validation, callbacks)],
        logger=logger,
        use_distributed_sampler=False,
        accumulate_grad_batches=settings.accumulate,
        log_every_n_steps=settings.log_every,
        fast_dev_run=settings.fast_dev_run,
        val_check_interval=settings.val_check_interval if has_validation else 1.0,
        enable_model_summary=False,
        profiler=StepClock(),
        enable_progress_bar=sys.stdout.isatty(),
    )
    folder.take(trainer, logger)
    return trainer


def _devices(settings: TrainerSettings) -> tuple[str, int | list[int]]:
    if torch.cuda.is_available() and not settings.cpu:
        return "gpu", settings.devices
    processes = settings.processes_per_node
    if "OMP_NUM_THREADS" not in os.environ:
        # Each process would take every core; shared cores run slower than divided ones.
        torch.set_num_threads(max((os.cpu_count() or 1) // processes, 1))
    if os.environ.get("LOCAL_RANK", "0") == "0":
        why = "device=cpu" if settings.cpu else "no CUDA device"
        print(f"{why}: {processes} process(es) run on the CPU with gloo")
    return "cpu", processes


def _strategy(settings: TrainerSettings, accelerator: str, environment: ClusterEnvironment | None) -> Strategy | str:
    if settings.processes_per_node * settings.num_nodes == 1:
        return "auto"
    return settings.ddp(
        equal_buffers=settings.equal_buffers,
        gradient_as_bucket_view=True,
        process_group_backend="nccl" if accelerator == "gpu" else "gloo",
        cluster_environment=environment,
    )


def _callbacks(settings: TrainerSettings, has_validation: bool, own: Sequence[L.Callback]) -> list[L.Callback]:
    last = LastCheckpoint(settings.save_every)
    preemption = Preemption(last)
    return [
        ExactState(),
        OwnRates(),
        preemption,
        FiniteGuard(preemption),
        *own,
        *([] if settings.monitor is None else [_best(settings.monitor, has_validation)]),
        last,
        RateLog(),
        DataWait(),
        SkippedImages(),
        progress_callback(),
    ]


def _best(monitor: str, has_validation: bool) -> BestCheckpoint:
    # At a validation's end its metric is that of this step.
    return BestCheckpoint(
        save_top_k=1,
        verbose=True,
        save_on_train_epoch_end=not has_validation,
        monitor=monitor if has_validation else None,
        mode="max" if has_validation else "min",
    )
