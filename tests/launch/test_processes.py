"""Several processes, half precision, recomputed activations: the same launcher, other keys."""

from __future__ import annotations

import math
import os
import socket
import subprocess
import sys

import pytest

from tests.launch.launcher import ENVIRONMENT, METER, PRETRAIN, Launcher, Result


def test_two_processes_train_epic_on_the_cpu(launcher: Launcher, vanilla: Result) -> None:
    items = launcher.items("num_gpus=2", "batch_size=16", "max_steps=2", f"teacher_path={vanilla.checkpoint}")
    run = launcher.cold(*PRETRAIN, "epic", *items)
    assert run.output.count("num_gpus=2 runs 2 process(es) on the CPU with gloo") == 1
    for tag in ("mlm/train/loss", "itm/train/loss", "epic/train/epic_itc", "epic/train/epic_gen"):
        values = run.values(tag)
        assert len(values) == 2 and all(math.isfinite(value) for value in values), tag
    assert run.output.count("run directory:") >= 1 and run.checkpoint.exists()


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.mark.slow
def test_openmpi_starts_the_processes(launcher: Launcher) -> None:
    """azure_distributed_run.py under the variables of `mpirun -np 2`, without OpenMPI itself."""
    log_dir = launcher.log_dir()
    items = launcher.items("num_gpus=2", "batch_size=16", "max_steps=2", f"log_dir={log_dir}")
    command = [sys.executable, "azure_distributed_run.py", "with", *PRETRAIN, *items]
    address = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free_port())}
    processes = []
    for rank in range(2):
        own = {"SIZE": "2", "RANK": str(rank), "LOCAL_RANK": str(rank), "LOCAL_SIZE": "2", "NODE_RANK": str(rank)}
        environment = {**ENVIRONMENT, **address, **{f"OMPI_COMM_WORLD_{name}": value for name, value in own.items()}}
        processes.append(
            subprocess.Popen(
                command, cwd=METER, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
            )
        )
    outputs = [process.communicate(timeout=300)[0] for process in processes]
    assert [process.returncode for process in processes] == [0, 0], outputs
    run = Result(0, outputs[0], log_dir)
    assert len(run.values("mlm/train/loss")) == 2 and run.checkpoint.exists()


def test_openmpis_launcher_outside_openmpi(launcher: Launcher) -> None:
    assert not any(name.startswith("OMPI_") for name in os.environ)
    run = launcher.run(*PRETRAIN, *launcher.items(), script="azure_distributed_run.py", check=False)
    assert run.status != 0 and "OMPI_COMM_WORLD_SIZE" in run.output and "start this script with mpirun" in run.output


def test_bf16(launcher: Launcher, vanilla: Result) -> None:
    run = launcher.pretrain("precision=bf16", "epic", f"teacher_path={vanilla.checkpoint}", "max_steps=2")
    assert run.values("mlm/train/loss")[0] == pytest.approx(vanilla.values("mlm/train/loss")[0], rel=0.02)
    assert run.values("mlm/train/loss")[0] != vanilla.values("mlm/train/loss")[0]
    assert all(math.isfinite(value) for value in run.values("epic/train/epic_itc"))


def test_gradient_checkpointing_gives_the_same_losses(launcher: Launcher, vanilla: Result) -> None:
    run = launcher.pretrain("val_check_interval=3", "gradient_checkpointing=True")
    assert run.config()["gradient_checkpointing"] is True
    for tag in ("mlm/train/loss", "itm/train/loss", "mlm/val/loss"):
        assert run.values(tag) == vanilla.values(tag), tag


def test_accumulated_batches_make_one_step(launcher: Launcher) -> None:
    run = launcher.pretrain("per_gpu_batchsize=4", "batch_size=8", "max_steps=2")
    assert run.values("lr-AdamW/pg1") == pytest.approx([0, 0, 1e-3, 1e-3])  # by batch
    assert len(run.values("mlm/train/loss")) == 2


def test_a_trial_run_leaves_nothing_behind(launcher: Launcher) -> None:
    run = launcher.pretrain("fast_dev_run=True")
    assert "step 1/1" in run.output and not run.log_dir.exists()
