"""Two processes, and processes that run.py starts; half precision, recomputed activations, a run that goes on."""

from __future__ import annotations

import math
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from tests.launch.launcher import ENVIRONMENT, ROOT
from tests.launch.xvlm.launcher import EPOCHS, ITERATIONS, NO_DROPOUT, WITH_REGIONS, Run, XvlmLauncher

GENERAL = ("loss_itc", "loss_itm", "loss_mlm")


@pytest.fixture(scope="module")
def two(xvlm: XvlmLauncher) -> Run:
    """8 pairs and 6 texts of regions for each of two processes."""
    first, _ = xvlm.on_two_processes("Pretrain", "images.batch_size=8", "regions.batch_size=6")
    return first


def test_two_processes_train(two: Run) -> None:
    """Both of them have the regions in the same iterations: else they would wait for each other forever."""
    assert two.output.count("2 process(es) run on the CPU with gloo") == 1
    for meter in GENERAL:
        values = two.values(f"train/{meter}")
        assert len(values) == ITERATIONS * EPOCHS and all(map(math.isfinite, values))
        assert len(two.values(f"train/regions/{meter}")) == WITH_REGIONS * EPOCHS
    assert [line["epoch"] for line in two.log] == [*range(EPOCHS)]


def test_a_run_that_was_cut_goes_on_at_its_step(xvlm: XvlmLauncher, vanilla: Run) -> None:
    """Within an epoch, between the two streams: the metrics and the weights of the unbroken run."""
    output = xvlm.log_dir()
    xvlm.run("Pretrain", "max_steps=4", output=output)
    run = xvlm.run("Pretrain", "resume_from=auto", output=output)
    assert run.metrics == vanilla.metrics and run.log == vanilla.log
    ours, theirs = (each.official(f"model_state_epoch_{EPOCHS - 1}.th")["model"] for each in (run, vanilla))
    assert all(torch.equal(ours[key], theirs[key]) for key in theirs)


def run_py(*argv: str) -> subprocess.CompletedProcess[str]:
    """``python3 run.py`` in its folder."""
    command = [sys.executable, "run.py", *argv]
    return subprocess.run(command, cwd=ROOT / "xvlm", env=ENVIRONMENT, capture_output=True, text=True, timeout=600)


@pytest.mark.slow
def test_run_py_starts_the_official_task(xvlm: XvlmLauncher, vanilla: Run) -> None:
    """``python3 run.py --task pretrain_4m_base --dist gpu0``, with the keys of a small model behind it."""
    output = xvlm.log_dir()
    script, _, config, _, _, *items = xvlm.arguments("Pretrain", output)
    assert script == "Pretrain.py"
    flags = ["--task", "pretrain_4m_base", "--dist", "gpu0", "--config", config, "--output_dir", str(output)]
    done = run_py(*flags, *items)
    assert done.returncode == 0, done.stderr
    run = Run(0, done.stdout, output)
    assert run.metrics == vanilla.metrics and run.log == vanilla.log


@pytest.mark.slow
def test_run_py_passes_a_failure_on(xvlm: XvlmLauncher, tmp_path: Path) -> None:
    flags = ["--task", "pretrain_4m_base", "--dist", "gpu0", "--output_dir", str(tmp_path / "a" / "b")]
    done = run_py(*flags, "imge_res=3")
    assert done.returncode == 1 and os.listdir(tmp_path / "a") == ["b"]
    assert "error: unknown config key 'imge_res'; did you mean 'image_res'?" in done.stderr
    assert done.stderr.splitlines()[-1] == "error: Pretrain.py ended with status 1"


@pytest.mark.slow
def test_bf16(xvlm: XvlmLauncher) -> None:
    items = (*NO_DROPOUT, "max_steps=2")
    half, whole = xvlm.run("Pretrain", *items, "precision=bf16"), xvlm.run("Pretrain", *items)
    for meter in ("loss_itc", "loss_mlm"):
        ours, theirs = half.values(f"train/{meter}"), whole.values(f"train/{meter}")
        assert ours and all(map(math.isfinite, ours))
        assert ours[0] == pytest.approx(theirs[0], rel=0.02) and ours[0] != theirs[0]


@pytest.mark.slow
def test_gradient_checkpointing_gives_the_same_losses(xvlm: XvlmLauncher, vanilla: Run) -> None:
    run = xvlm.run("Pretrain", "gradient_checkpointing=True")
    for meter in GENERAL:
        assert run.values(f"train/{meter}") == pytest.approx(vanilla.values(f"train/{meter}"), rel=1e-5), meter
