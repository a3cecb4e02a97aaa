"""Change several files of a folder, or none."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path


def change_files(root: Path, contents: Mapping[str, bytes | None]) -> None:
    """Give each file below ``root`` its new bytes (None: delete it), each by a rename in its own folder.

    Everything is written beside its place before the first file is replaced. After a failure midway, or Ctrl-C, the
    files replaced so far have their old bytes back. Folders that become empty are removed.

    Raises:
        OSError: a file cannot be written, replaced or deleted.
    """
    with ExitStack() as undo:
        written = {name: _beside(root / name, data, undo) for name, data in contents.items() if data is not None}
        for name in contents:
            path = root / name
            undo.callback(_put_back, path, path.read_bytes() if path.is_file() else None)
            if name in written:
                os.replace(written[name], path)
            else:
                path.unlink(missing_ok=True)
        undo.pop_all()
    for name, data in contents.items():
        if data is None:
            _remove_empty_folders((root / name).parent, root)


def _beside(path: Path, data: bytes, undo: ExitStack) -> Path:
    """A new file in the folder of ``path``, with its mode; it and new folders are gone if the change fails."""
    for folder in reversed([path.parent, *path.parent.parents]):
        if not folder.exists():
            folder.mkdir()
            undo.callback(folder.rmdir)
    handle, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    new = Path(name)
    undo.callback(new.unlink, missing_ok=True)
    with open(handle, "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(handle)
    if path.exists():
        shutil.copymode(path, new)
    else:
        new.chmod(0o644)
    return new


def _put_back(path: Path, data: bytes | None) -> None:
    if data is None:
        path.unlink(missing_ok=True)
    elif not path.is_file() or path.read_bytes() != data:
        path.write_bytes(data)


def _remove_empty_folders(folder: Path, root: Path) -> None:
    """From ``folder`` up; one that is gone already was removed on behalf of another of its files."""
    while folder != root and not (folder.is_dir() and any(folder.iterdir())):
        if folder.is_dir():
            folder.rmdir()
        folder = folder.parent
