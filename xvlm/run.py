r"""Run a task of X-VLM on the GPUs of one machine or of several.

    python3 run.py --task "pretrain_4m_base" --dist "1" --output_dir "output/pretrain_4m_base"
    python3 run.py --task "vqa" --dist "1" --output_dir "output/vqa" --checkpoint "4m_base_model_state_step_199999.th"
    python3 run.py --task "itr_coco" --dist "gpu0" --evaluate --output_dir "output/itr_coco" --checkpoint "best.pth"
Several machines: --dist "all" on each, with NNODES, NODE_RANK, MASTER_ADDR and, if need be, NPROC_PER_NODE and
MASTER_PORT in the environment (officially they are edited here).
Any key of the scripts' YAML files may follow: resume_from=auto optimizer.lr=5e-5. Of a task of two scripts each gets
the keys that it has.

Source: docs/official/xvlm.md §1.
"""

from __future__ import annotations

import argparse
import os
import re
import shlex
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NoReturn

from vlp.config.nearest import did_you_mean
from vlp.owner import Claim, HeldError, own
from vlp.safe_output import make_output_safe
from vlp.yaml_dialect.paths import in_hdfs
from xvlm.config import COMMANDS
from xvlm.tasks import SELF_CRITICAL, TASKS, Task, task_of


def fail(message: str) -> NoReturn:
    """End with a line and status 1."""
    sys.exit(f"error: {message}")


def _number(name: str, default: int) -> int:
    text = os.environ.get(name) or str(default)
    return int(text) if text.isdecimal() else fail(f"{name}={text}: expected a whole number")


UNSET = "SET_IT"
NNODES = _number("NNODES", 1)
NPROC_PER_NODE = _number("NPROC_PER_NODE", 8)
MASTER_ADDR = os.environ.get("MASTER_ADDR") or UNSET
MASTER_PORT = _number("MASTER_PORT", 12345)
NODE_RANK = _number("NODE_RANK", 0)

ROOTS = ("image_root", "vqa_root", "vg_root")  # keys that name another folder of images
LAUNCHER = (sys.executable, "-m", "torch.distributed.run")
_ALONE = "--standalone"  # a free port of this machine: runs on other GPUs of it may stand beside


def main(argv: Sequence[str]) -> int:
    """Run the scripts of a task one after the other, up to the first that fails, and return its status.

    Raises:
        SystemExit: wrong flags, or what they need is not there.
    """
    args = arguments(argv)
    if not Path("Pretrain.py").is_file():
        fail(f"run.py starts scripts of the working directory, which this is not: cd {Path(__file__).parent}")
    launch, variables = launcher(args.dist)
    task = checked_task(args)
    print(f"{NNODES=} {NPROC_PER_NODE=} {MASTER_ADDR=} {MASTER_PORT=} {NODE_RANK=}", flush=True)
    own_folder(args)
    commands = [*task.commands(args, task)]
    for command in commands:
        others = [other[0] for other in commands if other[0] != command[0]]
        whole = [*launch, *command, *(item for item in args.items if meant_for(item, command[0], others))]
        print(shlex.join([*(f"{name}={value}" for name, value in variables.items()), *whole]), flush=True)
        if status := call(whole, {**os.environ, **variables}):
            print(f"error: {command[0]} ended with status {status}", file=sys.stderr)
            return status
    return 0


def arguments(argv: Sequence[str]) -> argparse.Namespace:
    """The flags of a command line, and ``items`` for the scripts."""
    made = argparse.ArgumentParser(prog="run.py", allow_abbrev=False)
    made.add_argument("--task", required=True, help=", ".join([*TASKS]))
    made.add_argument("--dist", required=True, help="all (several machines), 1 (this one), f4, l4, gpu0 … gpu8")
    made.add_argument("--config", default="", help="YAML file of the task's first script, instead of its own")
    made.add_argument("--bs", type=int, default=-1, help="batch of all GPUs in fine-tuning; -1: the YAML file's")
    made.add_argument("--seed", type=int, default=42, help="of every script")
    made.add_argument("--checkpoint", default="", help="pre-trained weights, or those to score")
    made.add_argument("--load_ckpt_from", default="", help="what a domain stage has left: leave the stage out")
    made.add_argument("--output_dir", required=True, help="folder of the run")
    made.add_argument("--output_hdfs", default="", help="official; HDFS is not written")
    made.add_argument("--evaluate", action="store_true", help="score the checkpoint and train nothing")
    made.add_argument("items", nargs="*", metavar="key=value", help="keys of the YAML files")
    return made.parse_intermixed_args([*argv])


def checked_task(args: argparse.Namespace) -> Task:
    """The task of a command line that has all it needs.

    Raises:
        SystemExit: naming what is missing.
    """
    task = task_of(args.task)
    if args.task == SELF_CRITICAL:
        fail(f"--task {SELF_CRITICAL}: self-critical training is not part of this code; coco_captioning trains")
    if task is None:
        fail(f"--task {args.task}: there is none{did_you_mean(args.task, [*TASKS])} ({', '.join(TASKS)})")
    for name in ("config", "checkpoint", "load_ckpt_from", "output_dir", "output_hdfs"):
        if remote := in_hdfs(f"--{name}", getattr(args, name)):
            fail(remote)
    if args.output_hdfs:
        fail(f"--output_hdfs {args.output_hdfs}: HDFS is not written and no task needs it: leave it out")
    for name in ("config", "checkpoint", "load_ckpt_from"):
        if (path := getattr(args, name)) and not os.path.exists(path):
            fail(f"--{name} {path}: no such file")
    if args.load_ckpt_from and not task.staged:
        staged = ", ".join(name for name, each in TASKS.items() if each.staged)
        fail(f"--load_ckpt_from: --task {args.task} has no domain stage ({staged} have): give --checkpoint")
    if task.checkpoint and not (args.checkpoint or args.load_ckpt_from):
        instead = ", or --load_ckpt_from, the result of its domain stage" if task.staged else ""
        fail(f"--task {args.task} needs --checkpoint{instead}")
    elsewhere = any(item.partition("=")[0] in ROOTS for item in args.items)
    for folder in () if elsewhere else task.folders:
        if not os.path.isdir(folder):
            fail(
                f"{folder}: no such folder: --task {args.task} reads its images; docs/xvlm.md says where they come from"
            )
    return task


def own_folder(args: argparse.Namespace) -> None:
    """Make ``--output_dir`` this task's own, between its scripts too, which own their folders themselves.

    Raises:
        SystemExit: another task runs in it.
    """
    folder = Path(args.output_dir)
    folder.mkdir(parents=True, exist_ok=True)
    if args.dist == "all" and NODE_RANK:  # machine 0 owns the folder for all
        return
    try:
        own(Claim(folder, "task", "give another --output_dir", "running a task in"))
    except HeldError as error:
        fail(str(error))


def meant_for(item: str, script: str, others: Sequence[str]) -> bool:
    """Whether a ``key=value`` is for ``script``: not where another script of the task alone has the key."""
    key = item.partition("=")[0].split(".")[0]
    lacks, *found = (key not in COMMANDS[Path(name).stem].schema.model_fields for name in (script, *others))
    return not lacks or all(found)


def launcher(dist: str) -> tuple[list[str], dict[str, str]]:
    """What starts the processes of ``--dist``, and the variables that they get.

    Raises:
        SystemExit: no such form, or no MASTER_ADDR for several machines.
    """

    def local(processes: int, gpus: str, place: str = _ALONE) -> tuple[list[str], dict[str, str]]:
        variables = {"CUDA_VISIBLE_DEVICES": gpus, "WORLD_SIZE": str(processes)} if gpus else {}
        return [*LAUNCHER, place, f"--nproc_per_node={processes}", "--nnodes=1"], variables

    if dist == "all":
        if NODE_RANK >= NNODES:
            fail(f"NODE_RANK={NODE_RANK}: the {NNODES} machine(s) count from 0")
        if MASTER_ADDR == UNSET and NNODES > 1:
            fail(
                "--dist all: set MASTER_ADDR in the environment, the first machine's address, the same on every machine"
            )
        address = "127.0.0.1" if MASTER_ADDR == UNSET else MASTER_ADDR
        nodes = [f"--nproc_per_node={NPROC_PER_NODE}", f"--nnodes={NNODES}", f"--node_rank={NODE_RANK}"]
        return [*LAUNCHER, *nodes, f"--master_addr={address}", f"--master_port={MASTER_PORT}"], {}
    if dist == "1":
        return local(NPROC_PER_NODE, "")
    if dist == "f4":
        return local(4, "0,1,2,3")
    if dist == "l4":
        return local(4, "4,5,6,7", "--master_port=12345")
    if found := re.fullmatch(r"gpu([0-8])", dist):
        return local(1, found[1])
    fail(f"--dist {dist}: expected all, 1, f4, l4 or gpu0 … gpu8")


def call(command: Sequence[str], environment: Mapping[str, str]) -> int:
    """Run ``command`` to its end, pass on what stops a run, and return its status, 128 + n after signal n."""
    process = subprocess.Popen([*command], env=dict(environment))
    stopped = list[int]()

    def stop(number: int, _: Any) -> None:
        stopped.append(number)
        if number == signal.SIGTERM:  # a terminal's SIGINT goes to all of its processes
            process.send_signal(number)

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, stop)
    status = process.wait()
    if status < 0:
        return 128 - status
    return status or (128 + stopped[0] if stopped else 0)  # a run that was stopped is no reason to go on


if __name__ == "__main__":
    make_output_safe()
    sys.exit(main(sys.argv[1:]))
