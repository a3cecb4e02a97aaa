"""The launcher of this machine: the stages one after the other, each by its official command."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from reproduce import slurm, state
from reproduce.experiments import REPOSITORY
from reproduce.pipeline import Planned
from vlp.config.schema import ConfigError
from vlp.files import regular, regular_if_there
from vlp.owner import note_process
from vlp.progress import clock

SHOWN = ("step ", "retrieval: ", "epoch ", "[notice]", "error: ", "results: ")  # beginnings of lines that are printed
STOPPED = "stopped by a signal after step"  # what a run says whose status torchrun hides
LAST_LINES = 15


class Stop:
    """Whether this process was asked to stop, and the run that the signal is passed on to."""

    def __init__(self) -> None:
        self.asked = False
        self.process: subprocess.Popen[str] | None = None

    def __call__(self, number: int, frame: Any) -> None:
        self.asked = True
        if self.process is not None and self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)


def run(planned: Sequence[Planned], scale: str) -> int:
    """Run what is not complete and return the status: 0, 1 after a failure, 75 where a signal stopped it.

    Raises:
        ConfigError: a stage for several machines, or one that another process runs.
    """
    check_machines(planned)
    started = time.monotonic()
    with _listening() as stop:
        for number, each in enumerate(planned, start=1):
            head = f"[{number}/{len(planned)}] {each.stage.name}"
            if each.complete:
                print(f"{head}: done before", flush=True)
                continue
            print(f"{head} · {clock(time.monotonic() - started)} gone", flush=True)
            record = _run_stage(each, scale, stop)
            if record["state"] == "stopped":
                print(f"stopped, and saved: the same command goes on with {each.stage.name}", flush=True)
                return state.AGAIN
            if record["state"] != "done":
                print(failure(each, record), file=sys.stderr)
                return 1
    return 0


def check_machines(planned: Sequence[Planned]) -> None:
    """Raises ConfigError where a stage is for several machines."""
    for each in planned:
        if not each.complete and each.nodes > 1:
            raise ConfigError(
                f"{each.stage.name} is for {each.nodes} machines of {each.gpus} GPUs, --launcher local has this one: "
                "give --nodes 1, or --launcher slurm, or start the command that --dry-run prints on every machine"
            )


def failure(each: Planned, record: state.Record) -> str:
    """Which stage, why, where to look and what to do."""
    log = each.folder / state.LOG
    why = f"ended with status {record['status']}" if "lacks" not in record else f"left no {record['lacks']}"
    last = regular(log).read_text(encoding="utf-8", errors="replace").splitlines()[-LAST_LINES:]
    said = "\n".join(f"    {line}" for line in last)
    return (
        f"{said}\nerror: {each.stage.name} {why}; its output is in {log}, its last lines are above. When the cause is "
        "mended, the same command goes on from here"
    )


def executable(words: Sequence[str], nodes: int) -> list[str]:
    """The command with this Python; torchrun of one machine meets at a free port."""
    if words[0] == "torchrun":
        alone = ["--standalone"] if nodes == 1 else []
        return [sys.executable, "-m", "torch.distributed.run", *alone, *words[1:]]
    return [sys.executable, *words[1:]] if words[0] == "python" else list(words)


def environment() -> dict[str, str]:
    """This process's, with the repository on Python's path."""
    paths = [str(REPOSITORY), *filter(None, [os.environ.get("PYTHONPATH")])]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(paths), "PYTHONUNBUFFERED": "1"}


def _run_stage(each: Planned, scale: str, stop: Stop) -> state.Record:
    """Run it, again where it was stopped by a signal that did not come from here."""
    if job := slurm.waiting_job(each.folder):
        raise ConfigError(f"{each.stage.name} is in SLURM's queue as job {job}: wait for it, or scancel {job}")
    with state.locked(each.folder) as lock:
        record = each.record(scale)
        print(f"      $ {each.shown}\n      output: {each.folder / state.LOG}", flush=True)
        while True:
            record = state.begin(each.folder, record)
            status = _call(each, lock, stop)
            record = state.end(each.folder, record, state.AGAIN if stop.asked and status else status)
            if record["state"] != "stopped" or stop.asked:
                return record
            print("      stopped by a signal, and saved: it starts again", flush=True)


def _call(each: Planned, lock: int, stop: Stop) -> int:
    """The command's status; 75 where it says that a signal stopped it."""
    stopped = False
    with open(regular_if_there(each.folder / state.LOG), "a", encoding="utf-8") as log:
        log.write(f"$ {each.shown}\n")
        log.flush()
        process = subprocess.Popen(
            executable(each.words, each.nodes),
            cwd=REPOSITORY / each.stage.baseline,
            env=environment(),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            pass_fds=(lock,),
            start_new_session=True,  # a terminal's signal comes by way of this process, once
        )
        stop.process = process
        note_process(lock, process.pid)
        if stop.asked:
            process.send_signal(signal.SIGTERM)
        assert process.stdout is not None
        for line in process.stdout:
            log.write(line)
            log.flush()
            stopped = stopped or line.startswith(STOPPED)
            if line.startswith(SHOWN):
                print(f"      {line.rstrip()}", flush=True)
        status = process.wait()
    return state.AGAIN if status and stopped else status


@contextmanager
def _listening() -> Iterator[Stop]:
    """SIGINT and SIGTERM let the run save, and end the pipeline after it."""
    stop = Stop()
    before = {number: signal.signal(number, stop) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
