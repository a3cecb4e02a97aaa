"""Runs a baseline's launcher again and again from a process that has imported it once: every run is a fork of its own.

Each line of standard input, up to a line ``end``, is a JSON list of objects {"argv": […], "log": path,
"environment": {…}}, which run at the same time; their process ids, each that of a group of processes too, are printed
when all have started, and their exit statuses when all have ended. One that fails ends the others, which wait for it.
The import is most of what a short run costs.
"""

from __future__ import annotations

import gc
import importlib
import json
import os
import runpy
import signal
import sys
from typing import Any


def main() -> None:
    for module in sys.argv[1:]:
        importlib.import_module(module)
    gc.freeze()  # or every fork copies the memory of all that was imported, only to clear it away at its end
    print("ready", flush=True)
    for line in iter(sys.stdin.readline, "end\n"):
        statuses: dict[int, int | None] = {}
        for request in json.loads(line):
            child = os.fork()
            if child == 0:
                become(request)
                return
            statuses[child] = None
        print(*statuses, flush=True)
        while running := [child for child, status in statuses.items() if status is None]:
            child, status = os.wait()
            statuses[child] = os.waitstatus_to_exitcode(status)
            for other in running if status else ():
                if other != child:
                    os.kill(other, signal.SIGKILL)
        print(*statuses.values(), flush=True)


def become(request: dict[str, Any]) -> None:
    """Go on as ``python <argv>``, a script or ``-m`` and a module, with all output in the log."""
    os.setsid()
    log = os.open(request["log"], os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    os.dup2(log, 1)
    os.dup2(log, 2)
    os.environ.update(request["environment"])
    sys.argv = request["argv"]
    if sys.argv[0] == "-m":
        del sys.argv[0]
        runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)
    else:
        runpy.run_path(sys.argv[0], run_name="__main__")


if __name__ == "__main__":
    main()
