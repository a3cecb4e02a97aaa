"""Signals that a loader worker gets with its whole process group, and the one that ends it."""

from __future__ import annotations

import os
import signal
import subprocess
import time

import pytest

from vlp.data.worker_signals import ignore_in_worker


@pytest.mark.skipif(not hasattr(signal, "sigwaitinfo"), reason="workers of macOS keep their signals")
def test_only_the_parents_sigterm_ends_a_worker() -> None:
    ready, told = os.pipe()
    worker = os.fork()
    if worker == 0:
        ignore_in_worker(0)
        os.write(told, b"!")
        time.sleep(5)
        os._exit(1)  # nothing has ended it
    os.read(ready, 1)
    for name in ("USR1", "TERM", "TERM"):
        subprocess.run(["kill", f"-{name}", str(worker)], check=True)
        time.sleep(0.05)
        assert os.waitpid(worker, os.WNOHANG) == (0, 0), name
    os.kill(worker, signal.SIGTERM)
    _, status = os.waitpid(worker, 0)
    assert os.waitstatus_to_exitcode(status) == 0
