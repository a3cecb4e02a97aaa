"""Output that ends no run, whatever terminal, pipe, file or nothing stands behind it.

It stands in vlp and in epic_common, which imports nothing of vlp.
"""

from __future__ import annotations

import io
import os
import sys
from contextlib import suppress
from typing import Any


def make_output_safe() -> None:
    """Let this process print to anything; to be called before anything else keeps ``sys.stdout`` or ``sys.stderr``.

    What the encoding lacks becomes ``?``, and what cannot be written (a full disk, a pipe whose reader has gone, a
    stream that was closed before the start) is dropped.
    """
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is None:  # closed: without this the next file that is opened gets its number, and all that is printed
            number = os.open(os.devnull, os.O_WRONLY)
            os.set_inheritable(number, True)
            stream = os.fdopen(number, "w", closefd=False)
        setattr(sys, name, _safe(stream))


class _Forgiving(io.FileIO):
    """Takes all bytes; those that cannot be written are lost."""

    def write(self, data: Any) -> int:
        try:
            return super().write(data) or len(data)  # None: a pipe that does not wait is full
        except OSError:
            return len(data)


def _safe(stream: Any) -> Any:
    with suppress(OSError):
        stream.flush()
    try:
        raw = _Forgiving(stream.fileno(), "w", closefd=False)
    except (AttributeError, OSError):  # a notebook's
        return stream
    return io.TextIOWrapper(
        raw if stream.write_through else io.BufferedWriter(raw),
        encoding=stream.encoding,
        errors="replace" if stream.errors in ("strict", "surrogateescape") else stream.errors,
        line_buffering=stream.line_buffering,
        write_through=stream.write_through,
    )
