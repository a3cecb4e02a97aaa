"""Which processes a launcher has started, by its variables; and two real processes that train one small model."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from tests.unit.yaml_dialect.small_runs import YAML
from vlp.checkpoint.weights import read_checkpoint
from vlp.config.schema import ConfigError
from vlp.yaml_dialect.launch import Processes, find_processes, set_meeting_place, world_size

ROOT = Path(__file__).parents[3]
SCRIPT = str(ROOT / "tests/unit/yaml_dialect/small_script.py")
VARIABLES = (
    *("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT", "SLURM_PROCID"),
    *("SLURM_NTASKS", "SLURM_NNODES", "SLURM_JOB_NUM_NODES", "SLURM_JOB_NAME", "SLURM_NTASKS_PER_NODE"),
)


@pytest.fixture(autouse=True)
def no_launcher(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)


def exported(monkeypatch: pytest.MonkeyPatch, **variables: int | str) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(name, str(value))


def test_without_a_launcher_there_is_one_process() -> None:
    assert find_processes() == Processes(None, 1, 1) and world_size(1, True) == world_size(1, False) == 1


@pytest.mark.parametrize(
    ("variables", "found"),
    [
        ({"RANK": 9, "WORLD_SIZE": 16, "LOCAL_RANK": 1, "LOCAL_WORLD_SIZE": 8}, Processes("torchrun", 8, 2)),
        ({"RANK": 0, "WORLD_SIZE": 1, "LOCAL_RANK": 0, "LOCAL_WORLD_SIZE": 1}, Processes("torchrun", 1, 1)),
        ({"RANK": 3, "WORLD_SIZE": 4, "LOCAL_RANK": 3}, Processes("torchrun", 4, 1)),
        ({"SLURM_PROCID": 3, "SLURM_NTASKS": 16, "SLURM_NNODES": 2}, Processes("slurm", 8, 2)),
        ({"SLURM_PROCID": 3, "SLURM_NTASKS": 8}, Processes("slurm", 8, 1)),
        ({"SLURM_PROCID": 0, "SLURM_NTASKS": 8, "SLURM_JOB_NAME": "bash"}, Processes(None, 1, 1)),
        # Both: torchrun inside of a SLURM job.
        (
            {"SLURM_PROCID": 0, "SLURM_NTASKS": 1, "RANK": 1, "WORLD_SIZE": 2, "LOCAL_RANK": 1, "LOCAL_WORLD_SIZE": 2},
            Processes("torchrun", 2, 1),
        ),
    ],
)
def test_processes_of_launchers(
    variables: dict[str, int | str], found: Processes, monkeypatch: pytest.MonkeyPatch
) -> None:
    exported(monkeypatch, **variables)
    assert find_processes() == found and world_size(found.total, True) == found.total


def test_slurm_without_its_number_of_tasks_is_told_it(monkeypatch: pytest.MonkeyPatch) -> None:
    exported(monkeypatch, SLURM_PROCID=1)
    assert find_processes(4) == Processes("slurm", 4, 1) and world_size(4, True) == 4


@pytest.mark.parametrize(
    ("variables", "asked", "distributed", "said"),
    [
        ({"RANK": 0, "WORLD_SIZE": 2}, 1, True, "LOCAL_RANK is not"),
        ({"RANK": "x", "WORLD_SIZE": 2, "LOCAL_RANK": 0}, 1, True, "RANK=x: expected a whole number"),
        ({"SLURM_NNODES": "9" * 5000}, 1, True, "SLURM_NNODES=9{80}: expected a whole number"),
        ({"RANK": 0, "WORLD_SIZE": 3, "LOCAL_RANK": 0, "LOCAL_WORLD_SIZE": 2}, 1, True, "as many on every node"),
        ({"SLURM_PROCID": 0, "SLURM_NTASKS": 3, "SLURM_NNODES": 2}, 1, True, "as many on every node"),
        ({"SLURM_PROCID": 0, "SLURM_NTASKS": 4}, 8, True, r"--world_size 8, but 4 process\(es\)"),
        ({}, 8, True, r"--world_size 8, but 1 process\(es\) were started.*torchrun --nproc_per_node=8"),
        ({"RANK": 0, "WORLD_SIZE": 2, "LOCAL_RANK": 0}, 1, False, "--distributed False, but 2 processes"),
        ({"RANK": 2, "WORLD_SIZE": 2, "LOCAL_RANK": 0}, 1, True, "RANK=2, but WORLD_SIZE=2: ranks count from 0 to 1"),
        ({"RANK": -1, "WORLD_SIZE": 2, "LOCAL_RANK": 0}, 1, True, "RANK=-1: expected at least 0"),
        ({"RANK": 0, "WORLD_SIZE": 0, "LOCAL_RANK": 0}, 1, True, "WORLD_SIZE=0: expected at least 1"),
        ({"RANK": 0}, 1, True, "RANK=0, but WORLD_SIZE is not set"),
        ({"RANK": 0, "WORLD_SIZE": 2, "LOCAL_RANK": 2}, 1, True, "LOCAL_RANK=2, but WORLD_SIZE=2"),
        (
            *({"RANK": 0, "WORLD_SIZE": 4, "LOCAL_RANK": 2, "LOCAL_WORLD_SIZE": 2}, 1, True),
            "LOCAL_RANK=2, but LOCAL_WORLD_SIZE=2",
        ),
        (
            *({"RANK": 1, "WORLD_SIZE": 4, "LOCAL_RANK": 0, "LOCAL_WORLD_SIZE": 2}, 1, True),
            "LOCAL_RANK=0, but RANK=1 is 1 of 2 on its node",
        ),
        (
            *({"RANK": 0, "WORLD_SIZE": 1, "LOCAL_RANK": 0, "LOCAL_WORLD_SIZE": 2}, 1, True),
            "LOCAL_WORLD_SIZE=2, but WORLD_SIZE=1",
        ),
        ({"SLURM_PROCID": 4, "SLURM_NTASKS": 4}, 1, True, "SLURM_PROCID=4, but SLURM_NTASKS=4"),
        ({"MASTER_PORT": 99999}, 1, True, "MASTER_PORT=99999: expected a free port"),
    ],
)
def test_contradictions_are_refused(
    variables: dict[str, int | str], asked: int, distributed: bool, said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    exported(monkeypatch, **variables)
    with pytest.raises(ConfigError, match=said):
        world_size(asked, distributed)


def test_where_processes_meet(monkeypatch: pytest.MonkeyPatch) -> None:
    exported(monkeypatch, MASTER_ADDR="node-a", MASTER_PORT=1234)
    set_meeting_place("env://")
    assert (os.environ["MASTER_ADDR"], os.environ["MASTER_PORT"]) == ("node-a", "1234")
    set_meeting_place("tcp://10.0.0.1:2345")
    assert (os.environ["MASTER_ADDR"], os.environ["MASTER_PORT"]) == ("10.0.0.1", "2345")
    for wrong in ("file:///tmp/x", "tcp://host", "tcp://host:99999", "host:1"):
        with pytest.raises(ConfigError, match="expected env://, or tcp://HOST:PORT"):
            set_meeting_place(wrong)


# Real processes ---------------------------------------------------------------------------------------------------

TORCHRUN = ["torch.distributed.run", "--standalone", "--nproc_per_node=2"]
OLD = ["torch.distributed.launch", "--nproc_per_node=2"]


def started(launcher: list[str], folder: Path, *argv: str) -> Path:
    """A run of the small script by a launcher, in ``folder``; its own folder."""
    folder.mkdir(exist_ok=True)
    if launcher[0] == OLD[0]:
        with socket.socket() as probe:
            probe.bind(("localhost", 0))
            launcher = [*launcher, f"--master_port={probe.getsockname()[1]}"]
    (folder / "Small.yaml").write_text(YAML, encoding="utf-8")
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    done = subprocess.run(
        [sys.executable, "-m", *launcher, SCRIPT, "--config", "Small.yaml", "--output_dir", "out", *argv],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        timeout=400,
    )
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-4000:]
    return folder / "out"


@pytest.mark.parametrize(
    "launcher",
    [
        pytest.param(TORCHRUN, id="torchrun"),
        pytest.param(OLD, id="launch", marks=pytest.mark.slow),
        pytest.param([*OLD, "--use_env"], id="use_env", marks=pytest.mark.slow),
    ],
)
def test_two_processes_leave_one_run(launcher: list[str], tmp_path: Path) -> None:
    out = started(launcher, tmp_path, "schedular.epochs=2", "rows=8")
    lines = [json.loads(line) for line in (out / "log.txt").read_text().splitlines()]
    assert [line["epoch"] for line in lines] == [0, 1]
    assert lines[0]["val_rows"] == lines[0]["test_rows"] == 6  # over both, one of val twice
    assert sorted(path.name for path in out.glob("*.pth")) == ["checkpoint_00.pth", "checkpoint_01.pth"]
    assert json.loads((out / "config.json").read_text())["config"]["world_size"] == 2
    logged = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    # Two epochs of two steps: each process has four of the eight rows.
    assert [line["step"] for line in logged if "train/loss_fit" in line] == [0, 1, 2, 3]


@pytest.mark.slow
def test_two_processes_go_on_to_the_bit(tmp_path: Path) -> None:
    settings = ("rows=12", "shard_optimizer=True")
    whole = started(TORCHRUN, tmp_path / "whole", *settings)
    cut = started(TORCHRUN, tmp_path / "cut", *settings, "max_steps=4")
    assert [path.name for path in cut.glob("*.pth")] == ["checkpoint_00.pth"]
    started(TORCHRUN, tmp_path / "cut", *settings, "resume_from=auto")
    first, second = (read_checkpoint(out / "checkpoint_02.pth") for out in (whole, cut))
    assert first["model"].keys() == second["model"].keys()
    assert all(torch.equal(value, second["model"][name]) for name, value in first["model"].items())
    assert first["optimizer"]["state"].keys() == second["optimizer"]["state"].keys()
    assert len(first["optimizer"]["state"]) > 3
    assert (whole / "log.txt").read_text() == (cut / "log.txt").read_text()
