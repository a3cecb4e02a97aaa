"""Run the demo's stages one after the other, each only if its result is not there yet, and say how long is left."""

from __future__ import annotations

import re
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from vlp.files import regular
from vlp.owner import Claim, own
from vlp.progress import clock

_PROGRESS = re.compile("step |retrieval: |error: |.* … [0-9:]+$")


class StageError(SystemExit):
    """A stage failed; its log says why."""


@dataclass(frozen=True)
class Stage:
    """One step of the demo.

    ``done`` exists once the stage is complete; ``seconds`` is its usual share, from which the time left is told.
    """

    title: str
    seconds: float
    done: Path
    run: Callable[[], None]


def own_output(folder: Path) -> None:
    """Keep other demos out of ``folder`` to the end of this process.

    Raises:
        SystemExit: one runs there, or nothing can be written there.
    """
    try:
        own(Claim(folder, "demo", "give another --output"))
    except OSError as error:
        raise SystemExit(f"error: {error}") from None


def run_stages(stages: Sequence[Stage]) -> None:
    """Run every stage whose result is missing; a stage that a kill interrupted starts again."""
    todo = [stage for stage in stages if not stage.done.exists()]
    planned, started = sum(stage.seconds for stage in todo), time.monotonic()
    finished = 0.0
    for number, stage in enumerate(stages, start=1):
        head = f"[{number}/{len(stages)}] {stage.title}"
        if stage not in todo:
            print(f"{head}: already there", flush=True)
            continue
        elapsed = time.monotonic() - started
        # Once a third is known, this machine's own pace tells better than the plan.
        pace = elapsed / finished if finished > planned / 3 else 1.0
        print(f"{head} · {clock(elapsed)} gone, about {clock((planned - finished) * pace)} left", flush=True)
        stage.run()
        if not stage.done.exists():
            raise StageError(f"{stage.title}: ended without {stage.done}")
        finished += stage.seconds


def run_command(
    command: Sequence[str],
    folder: Path,
    log: Path,
    env: Mapping[str, str] | None = None,
    label: str = "",
) -> None:
    """Run ``command`` in ``folder``, its output in ``log``; its progress and errors are printed, too.

    Args:
        env: its environment; None: this process's.
        label: printed before each of those lines; it tells commands that run at once apart.

    Raises:
        StageError: a non-zero exit; the last lines of the log are printed.
    """
    log.parent.mkdir(parents=True, exist_ok=True)
    with open(log, "w") as handle:
        process = subprocess.Popen(
            command, cwd=folder, env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )
        assert process.stdout is not None
        for line in process.stdout:
            handle.write(line)
            if _PROGRESS.match(line):
                print(f"      {label}{line.rstrip()}", flush=True)
    if process.wait():
        print("".join(regular(log).read_text().splitlines(keepends=True)[-20:]), file=sys.stderr)
        raise StageError(f"this command failed with status {process.returncode}; its whole output: {log}")
