"""Stages as SLURM jobs: scripts, dependencies, requeueing, and submissions that fail midway."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from reproduce import local, slurm, state
from reproduce.experiments import Experiments, Stage
from reproduce.pipeline import plan
from reproduce.status import stage_state
from tests.unit.reproduce.cluster import Cluster
from tests.unit.reproduce.stages import WRITE, experiments, places, stage
from tests.unit.reproduce.test_local import TWICE
from vlp.config.schema import ConfigError

RANKS = (
    "import os, sys; e = os.environ; "
    "open(sys.argv[1] + '.' + e['SLURM_PROCID'], 'w').write(e['MASTER_ADDR'] + ' ' + e['MASTER_PORT'])\n" + WRITE
)


@pytest.fixture
def cluster(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Cluster:
    cluster = Cluster(tmp_path / "cluster")
    monkeypatch.setenv("PATH", cluster.path)
    return cluster


def submit(folder: Path, all_of: Experiments, **machines: int) -> int:
    return slurm.run(plan(all_of, all_of.stages, places(folder), **machines), "paper", dry_run=False)


def states(folder: Path, all_of: Experiments) -> list[str]:
    return [stage_state(places(folder).folder(name)) for name in all_of.stages]


def test_jobs_wait_for_those_before_them(tmp_path: Path, cluster: Cluster) -> None:
    all_of = experiments(stage("a"), stage("b", after=["a"]), stage("c", after=["a", "b"]))
    submit(tmp_path, all_of)
    assert {job: about["after"] for job, about in cluster.jobs.items()} == {
        "100": [],
        "101": ["100"],
        "102": ["100", "101"],
    }
    assert states(tmp_path, all_of) == ["queued"] * 3
    assert cluster.work() == ["100", "101", "102"]
    assert states(tmp_path, all_of) == ["done"] * 3
    submit(tmp_path, all_of)
    assert len(cluster.jobs) == 3


def test_a_second_row_waits_for_the_job_of_a_shared_stage(tmp_path: Path, cluster: Cluster) -> None:
    submit(tmp_path, experiments(stage("teacher")))
    all_of = experiments(stage("teacher"), stage("student", after=["teacher"]))
    submit(tmp_path, all_of)
    assert cluster.jobs["101"]["after"] == ["100"] and len(cluster.jobs) == 2


def test_a_stage_in_the_queue_does_not_run_here_and_one_that_runs_here_is_not_submitted(
    tmp_path: Path, cluster: Cluster
) -> None:
    all_of = experiments(stage("a"))
    with state.locked(places(tmp_path).folder("a")), pytest.raises(ConfigError, match="a runs on this machine"):
        submit(tmp_path, all_of)
    submit(tmp_path, all_of)
    with pytest.raises(ConfigError, match="a is in SLURM's queue as job 100"):
        local.run(plan(all_of, ["a"], places(tmp_path)), "paper")


def test_every_task_gets_a_rank_and_the_place_to_meet(tmp_path: Path, cluster: Cluster) -> None:
    all_of = experiments(stage("a", RANKS, gpus=2))
    submit(tmp_path, all_of, nodes=2)
    cluster.work()
    folder = places(tmp_path).folder("a")
    assert {(folder / f"model.pt.{rank}").read_text() for rank in range(4)} == {"node-a 20100"}


def test_status_75_is_requeued_under_its_number(tmp_path: Path, cluster: Cluster) -> None:
    all_of = experiments(stage("a", TWICE), stage("b", after=["a"]))
    submit(tmp_path, all_of)
    assert cluster.work() == ["100", "100", "101"]
    record = state.read(places(tmp_path).folder("a"))
    assert record is not None and record["state"] == "done" and record["attempts"] == 2


def test_what_comes_after_a_failure_is_cancelled_and_submitted_again(tmp_path: Path, cluster: Cluster) -> None:
    fails = f"import os, sys\nif not os.path.exists(sys.argv[1] + '.mended'): sys.exit(3)\n{WRITE}"
    all_of = experiments(stage("a", fails), stage("b", after=["a"]))
    submit(tmp_path, all_of)
    assert cluster.work() == ["100"]
    assert states(tmp_path, all_of) == ["failed", "not run"]
    (places(tmp_path).folder("a") / "model.pt.mended").touch()
    submit(tmp_path, all_of)
    assert cluster.work() == ["102", "103"] and states(tmp_path, all_of) == ["done", "done"]


def test_a_job_that_leaves_nothing_has_failed(tmp_path: Path, cluster: Cluster) -> None:
    all_of = experiments(stage("a", "pass"), stage("b", after=["a"]))
    submit(tmp_path, all_of)
    assert cluster.work() == ["100"] and states(tmp_path, all_of) == ["failed", "not run"]
    assert "error: a: left no model.pt" in (places(tmp_path).folder("a") / state.LOG).read_text()


def test_a_submission_that_fails_midway_is_gone_on_with(tmp_path: Path, cluster: Cluster) -> None:
    all_of = experiments(stage("a"), stage("b", after=["a"]), stage("c", after=["b"]))
    cluster.limit(2)
    with pytest.raises(ConfigError, match=r"^c: sbatch .* violates accounting.*; 2 before it are submitted and stay"):
        submit(tmp_path, all_of)
    assert states(tmp_path, all_of) == ["queued", "queued", "not run"]
    cluster.lift()
    submit(tmp_path, all_of)
    assert [about["after"] for about in cluster.jobs.values()] == [[], ["100"], ["101"]]
    cluster.work()
    assert states(tmp_path, all_of) == ["done"] * 3


def test_without_slurm_it_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nonexistent")
    with pytest.raises(ConfigError, match="sbatch is not there"):
        submit(tmp_path, experiments(stage("a")))


def test_a_script_of_both_dialects(tmp_path: Path) -> None:
    lists = Stage(
        "albef/x",
        "pretrain",
        "albef",
        ("torchrun", "--nnodes=2", "--nproc_per_node=8", "Pretrain.py", "--seed", "1"),
        nodes=2,
    )
    items = Stage("meter/x", "finetune", "meter", ("python", "run.py", "with", "num_gpus=8", "exp_name=two words"))
    for each, says in ((lists, "Pretrain.py --seed 1"), (items, "run.py with num_gpus=8 'exp_name=two words'")):
        planned = slurm.Planned(each, each.command, tmp_path, each.gpus, each.nodes, "hash", False)
        text = slurm.script(planned)
        assert f"python {says}\n" in text and "torchrun" not in text
        assert f"#SBATCH --nodes={each.nodes}\n#SBATCH --ntasks-per-node=8\n#SBATCH --gpus-per-node=8\n" in text
        assert subprocess.run(["bash", "-n"], input=text, text=True).returncode == 0
        shellcheck = Path(sys.executable).with_name("shellcheck")
        assert subprocess.run([shellcheck, "-"], input=text, text=True).returncode == 0
