"""SLURM as far as the scripts use it: sbatch, squeue, scontrol and srun on PATH, and a controller that runs the jobs.

Jobs are files in a folder. As the real ones: sbatch prints the job's number and refuses a dependency on an unknown job;
squeue knows jobs that are pending or running and ends with 1 for others; scontrol requeue puts a job back under its
number; srun starts a process for each task with SLURM's variables and ends with the highest status; jobs whose
dependency has failed are cancelled.
"""

from __future__ import annotations

import json
import os
import stat
import subprocess
import sys
from pathlib import Path
from typing import Any

COMMANDS = {
    "sbatch": """
if (cluster / "full").exists() and len(jobs()) >= int((cluster / "full").read_text()):
    sys.exit("sbatch: error: Batch job submission failed: Job violates accounting/QOS policy")
after = next((a.split("afterok:")[1].split(":") for a in sys.argv if "afterok" in a), [])
known = jobs()
if any(job not in known for job in after):
    sys.exit("sbatch: error: Batch job submission failed: Job dependency problem")
job = str(100 + len(known))
save(job, {"script": sys.argv[-1], "after": after, "state": "PENDING", "arguments": sys.argv[1:]})
print(job)
""",
    "squeue": """
job = next(a for a in sys.argv if a.startswith("--jobs=")).removeprefix("--jobs=")
state = jobs().get(job, {}).get("state")
if state not in ("PENDING", "RUNNING"):
    sys.exit("slurm_load_jobs error: Invalid job id specified")
print(state)
""",
    "scontrol": """
if sys.argv[1:3] == ["show", "hostnames"]:
    print("node-a\\nnode-b")
elif sys.argv[1] == "requeue":
    save(sys.argv[2], {**jobs()[sys.argv[2]], "state": "REQUEUED"})
""",
    "srun": """
tasks = int(os.environ["SLURM_NTASKS"])
each = int(os.environ["SLURM_NTASKS_PER_NODE"])
def env(rank):
    return {**os.environ, "SLURM_PROCID": str(rank), "SLURM_LOCALID": str(rank % each)}
runs = [subprocess.Popen(sys.argv[1:], env=env(rank)) for rank in range(tasks)]
sys.exit(max(run.wait() for run in runs))
""",
}
HEAD = """#!{python}
import json, os, pathlib, subprocess, sys
cluster = pathlib.Path({folder!r})
def jobs():
    return {{path.stem: json.loads(path.read_text()) for path in cluster.glob("*.json")}}
def save(job, about):
    (cluster / (job + ".json")).write_text(json.dumps(about))
"""


class Cluster:
    """Its commands in ``bin``, its queue, and the controller."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.bin = folder, folder / "bin"
        self.bin.mkdir(parents=True)
        for name, code in COMMANDS.items():
            path = self.bin / name
            path.write_text(HEAD.format(python=sys.executable, folder=str(folder)) + code)
            path.chmod(path.stat().st_mode | stat.S_IEXEC)
        self.path = f"{self.bin}{os.pathsep}{os.environ['PATH']}"

    def limit(self, jobs: int) -> None:
        """sbatch refuses more than these."""
        (self.folder / "full").write_text(str(jobs))

    def lift(self) -> None:
        (self.folder / "full").unlink()

    @property
    def jobs(self) -> dict[str, dict[str, Any]]:
        return {path.stem: json.loads(path.read_text()) for path in sorted(self.folder.glob("*.json"))}

    def _save(self, job: str, **changes: Any) -> None:
        (self.folder / f"{job}.json").write_text(json.dumps({**self.jobs[job], **changes}))

    def work(self) -> list[str]:
        """Run jobs until none can run any more; their numbers in the order in which they ran."""
        ran: list[str] = []
        while (job := self._next()) is not None:
            ran.append(job)
            self._run(job)
        return ran

    def _next(self) -> str | None:
        jobs = self.jobs
        for job, about in jobs.items():
            states = {jobs[other]["state"] for other in about["after"]}
            if about["state"] == "PENDING" and states & {"FAILED", "CANCELLED"}:
                self._save(job, state="CANCELLED" if "--kill-on-invalid-dep=yes" in about["arguments"] else "STUCK")
                return self._next()
            if about["state"] == "PENDING" and states <= {"COMPLETED"}:
                return job
        return None

    def _run(self, job: str) -> None:
        script = Path(self.jobs[job]["script"])
        lines = [line.split("--", 1)[1] for line in script.read_text().splitlines() if line.startswith("#SBATCH --")]
        given = dict(line.split("=", 1) for line in lines if "=" in line)
        nodes, each = int(given["nodes"]), int(given["ntasks-per-node"])
        environment = {
            **os.environ,
            **{"PATH": self.path, "SLURM_JOB_ID": job, "SLURM_JOB_NODELIST": "node-[a-b]", "SLURM_NNODES": str(nodes)},
            **{"SLURM_NTASKS": str(nodes * each), "SLURM_NTASKS_PER_NODE": str(each)},
            **{"SLURM_JOB_NAME": given["job-name"], "SLURM_NODELIST": "node-[a-b]", "SLURM_NODEID": "0"},
        }
        self._save(job, state="RUNNING")
        with open(given["output"], "a") as log:
            status = subprocess.run(["bash", str(script)], env=environment, stdout=log, stderr=log).returncode
        again = self.jobs[job]["state"] == "REQUEUED"
        self._save(job, state="PENDING" if again else ("FAILED" if status else "COMPLETED"))
