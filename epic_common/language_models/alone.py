"""One process at a time makes a folder that appears whole (``fit_lm``): a second one is refused at once."""

from __future__ import annotations

import errno
import fcntl
import os
import shlex
import socket
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def alone(output: Path) -> Iterator[None]:
    """Hold ``.{name}.lock`` beside ``output``, the folder to make; the lock ends with its process, whatever ends that.

    Folders that are still there have vlp.owner for this; nothing of vlp is imported here.

    Raises:
        FileExistsError: another process makes ``output``; names it.
        OSError: nothing can be written there.
    """
    output.absolute().parent.mkdir(parents=True, exist_ok=True)
    path = output.absolute().with_name(f".{output.absolute().name}.lock")
    with path.open("a+", encoding="utf-8") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            if error.errno in (errno.EAGAIN, errno.EACCES):
                file.seek(0)
                who = file.read() or "another process"
                raise FileExistsError(f"{who} is making {output}: wait for it, or name another output folder") from None
            said = f"{path.parent} has no file locks ({error.strerror}): see yourself that nothing else makes {output}"
            print(f"notice: {said}", file=sys.stderr, flush=True)
        since = time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime())
        file.truncate(0)
        file.write(f"process {os.getpid()} on {socket.gethostname()} since {since} ({shlex.join(sys.orig_argv)})")
        file.flush()
        try:
            yield
        finally:
            path.unlink(missing_ok=True)
