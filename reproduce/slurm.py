"""SLURM: one batch script a stage, submitted with the stages before it as dependencies, requeued on status 75.

Source: docs/cluster.md.
"""

from __future__ import annotations

import shlex
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from reproduce import state
from reproduce.experiments import REPOSITORY
from reproduce.pipeline import Planned
from vlp.config.schema import ConfigError
from vlp.files import atomic_open

SCRIPT, JOB = "stage.sbatch", "stage.job"
SECONDS_TO_SAVE = 120
CPUS_PER_GPU = 9  # eight loader workers and the process
DAYS = {"pretrain": 7, "finetune": 2}  # of a job; it is requeued where it needs more


def run(planned: Sequence[Planned], scale: str, dry_run: bool) -> int:
    """Submit what is neither complete nor in the queue, or print the scripts; the status.

    Raises:
        ConfigError: a submission failed; what was submitted before stays, and the next call takes it up.
    """
    jobs: dict[str, str] = {}
    for number, each in enumerate(planned, start=1):
        head = f"[{number}/{len(planned)}] {each.stage.name}"
        if each.complete:
            print(f"{head}: done before")
        elif dry_run:
            print(f"{head}\n{script(each)}")
        elif state.is_locked(each.folder):
            raise ConfigError(f"{each.stage.name} runs on this machine, without SLURM: wait for it, or stop it")
        elif job := waiting_job(each.folder):
            jobs[each.stage.name] = job
            print(f"{head}: in the queue as job {job}")
        else:
            before = [jobs[name] for name in each.stage.after if name in jobs]
            jobs[each.stage.name] = _submit(each, scale, before, list(jobs))
            print(f"{head}: submitted as job {jobs[each.stage.name]}", flush=True)
    if jobs:
        print("python -m reproduce status says how they are; squeue and scancel know them by their numbers")
    return 0


def _submit(each: Planned, scale: str, before: Sequence[str], submitted: Sequence[str]) -> str:
    """The job's number."""
    each.folder.mkdir(parents=True, exist_ok=True)
    path = each.folder / SCRIPT
    with atomic_open(path) as handle:
        handle.write(script(each).encode())
    state.write(each.folder, each.record(scale))  # before the job can start, which notes in it that it has
    after = [f"--dependency=afterok:{':'.join(before)}", "--kill-on-invalid-dep=yes"] if before else []
    command = ["sbatch", "--parsable", *after, str(path)]
    done = _called(command)
    job = done.stdout.strip().split(";")[0]
    if done.returncode or not job.isdecimal():
        said = " ".join((done.stderr or done.stdout).split()) or "nothing"
        there = f"; {len(submitted)} before it are submitted and stay" if submitted else ""
        raise ConfigError(
            f"{each.stage.name}: {shlex.join(command)} ended with status {done.returncode} and said {said!r}{there}: "
            "the same command goes on with this one"
        )
    (each.folder / JOB).write_text(f"{job}\n", encoding="utf-8")
    return job


def waiting_job(folder: Path) -> str:
    """The number of a stage's job that is in the queue or runs; nothing where there is none."""
    job = job_of(folder)
    if not job or shutil.which("squeue") is None:
        return ""
    done = _called(["squeue", "--noheader", "--format=%T", f"--jobs={job}"])
    return job if done.returncode == 0 and done.stdout.strip() else ""


def job_of(folder: Path) -> str:
    """The number of a stage's last job; nothing where it had none."""
    path = folder / JOB
    return path.read_text(encoding="utf-8").strip() if path.is_file() else ""


def _called(command: Sequence[str]) -> subprocess.CompletedProcess[str]:
    try:
        return subprocess.run(command, capture_output=True, text=True)
    except FileNotFoundError:
        raise ConfigError(f"{command[0]} is not there: --launcher slurm runs where SLURM's commands are") from None


def script(each: Planned) -> str:
    """The batch script of a stage."""
    folder, words = each.folder, as_tasks(each.words)
    options = {
        "job-name": each.stage.name.replace("/", "-"),
        "output": folder / state.LOG,
        "nodes": each.nodes,
        "ntasks-per-node": max(each.gpus, 1),
        **({"gpus-per-node": each.gpus, "cpus-per-task": CPUS_PER_GPU} if each.gpus else {}),
        "time": f"{DAYS.get(each.stage.kind, 1)}-00:00:00",
        "signal": f"USR1@{SECONDS_TO_SAVE}",
    }
    lines = [f"#SBATCH --{name}={value}" for name, value in options.items()]
    note = shlex.join([sys.executable, "-m", "reproduce", "record", str(folder)])
    return "\n".join(
        (
            "#!/bin/bash",
            *lines,
            "#SBATCH --requeue",
            "#SBATCH --open-mode=append",
            "set -uo pipefail",
            f"cd {shlex.quote(str(REPOSITORY))} || exit 1",
            f"export PYTHONPATH={shlex.quote(str(REPOSITORY))}${{PYTHONPATH:+:$PYTHONPATH}} PYTHONUNBUFFERED=1",
            'MASTER_ADDR=$(scontrol show hostnames "$SLURM_JOB_NODELIST" | head -n 1)',
            "MASTER_PORT=$((20000 + SLURM_JOB_ID % 20000))",
            "export MASTER_ADDR MASTER_PORT",
            f"{note} --begin || exit 1",
            f"cd {shlex.quote(str(REPOSITORY / each.stage.baseline))} || exit 1",
            f"srun {shlex.join(words)}",
            "status=$?",
            f"cd {shlex.quote(str(REPOSITORY))} || exit 1",
            f'{note} --status "$status"',
            "ended=$?",
            '[ "$ended" -eq 75 ] && scontrol requeue "$SLURM_JOB_ID"',
            'exit "$ended"',
            "",
        )
    )


def as_tasks(words: Sequence[str]) -> list[str]:
    """A command of one process, of which srun starts as many as there are tasks: torchrun is left out."""
    rest = list(words[1:])
    if words[0] == "torchrun":
        while rest[0].startswith("-"):
            rest.pop(0)
    elif words[0] != "python":
        return list(words)
    return [sys.executable, *rest]
