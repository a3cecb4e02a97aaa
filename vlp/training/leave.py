"""End a run on all ranks at once, with a status that says why."""

from __future__ import annotations

import subprocess
from typing import Any, NoReturn

import lightning as L


def leave(trainer: L.Trainer, status: int | str) -> NoReturn:
    """End this process with ``status`` (a text is printed and becomes 1); every rank must call it at the same point.

    A process that Lightning made start the others of its node waits until they have ended, so that who waits for it
    finds nothing running.
    """
    launcher: Any = trainer.strategy.launcher
    children: list[subprocess.Popen[bytes]] = list(getattr(launcher, "procs", ()))
    if children:
        launcher.procs.clear()  # Lightning's watching thread kills this process when a child's status is not 0
    trainer.strategy.barrier("leave")
    for child in children:
        try:
            child.wait(timeout=60)
        except subprocess.TimeoutExpired:
            child.kill()
    raise SystemExit(status)
