"""Signals in loader workers: a run that is told to stop finishes its step, and needs its workers until then."""

from __future__ import annotations

import os
import signal
import threading


def ignore_in_worker(worker_id: int) -> None:
    """For loader workers: a signal to the whole process group must not break the step that is to be finished.

    A SIGTERM from the process that started the worker still ends it: so Python ends workers that are left over.
    """
    if hasattr(signal, "sigwaitinfo"):  # not on macOS
        signal.signal(signal.SIGUSR1, signal.SIG_IGN)
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
        threading.Thread(target=_end_with, args=(os.getppid(),), daemon=True).start()


def _end_with(parent: int) -> None:
    while signal.sigwaitinfo({signal.SIGTERM}).si_pid != parent:
        pass
    os._exit(0)
