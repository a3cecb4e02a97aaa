"""Why an image file cannot be used, found out without reading it."""

from __future__ import annotations

import stat
from pathlib import Path

_KINDS = {stat.S_IFDIR: "a folder", stat.S_IFIFO: "a FIFO", stat.S_IFSOCK: "a socket"}


def file_problem(path: Path) -> tuple[str, str] | None:
    """Return (reason, example) if ``path`` is missing, empty or no regular file, which must never be opened."""
    try:
        status = path.stat()
    except FileNotFoundError:
        return "annotation without image", str(path)
    except (OSError, ValueError) as error:  # a ValueError: a name that no file can have
        return "image cannot be read", f"{path}: {getattr(error, 'strerror', None) or error}"
    if not stat.S_ISREG(status.st_mode):  # opening a FIFO would wait for a writer
        kind = _KINDS.get(stat.S_IFMT(status.st_mode), "a device")
        return "image is no regular file", f"{path}: {kind}"
    return None if status.st_size else ("zero-byte image", str(path))
