"""The launcher on one GPU and on all of them, which talk by NCCL."""

from __future__ import annotations

import pytest
import torch

from tests.gpu.marks import ON_GPU
from tests.gpu.runs import resumes, trains
from tests.launch.conftest import data, launcher, launchers
from tests.launch.launcher import Launcher

__all__ = ["data", "launcher", "launchers"]

pytestmark = ON_GPU
GPUS = torch.cuda.device_count()
SEVERAL = pytest.mark.skipif(GPUS < 2, reason=f"NCCL needs two GPUs, torch sees {GPUS} here")


@pytest.mark.parametrize("precision", ["32", "bf16", "16"])
def test_one_gpu(precision: str, launcher: Launcher) -> None:
    run = trains(launcher, 1, f"precision={precision}")
    assert "float32 products on the GPU: TF32" in run.output and "run on the CPU" not in run.output


@SEVERAL
def test_all_gpus(launcher: Launcher) -> None:
    run = trains(launcher, GPUS)
    assert "NCCL" in run.output  # whose log is on


@pytest.mark.parametrize("devices", [1, pytest.param(GPUS, marks=SEVERAL)])
def test_a_run_goes_on_bit_by_bit_where_that_is_asked_for(devices: int, launcher: Launcher) -> None:
    resumes(launcher, devices, trains(launcher, 1).checkpoint)
