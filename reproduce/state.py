"""``stage.json`` in a stage's folder: what was run there and how it ended; and the lock of whoever runs it."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from vlp.config.schema import ConfigError
from vlp.files import read_json, sha256_of_bytes, write_json
from vlp.owner import Claim, HeldError, held, is_held

FILE, LOG = "stage.json", "stage.log"
AGAIN = 75  # a run's status after a signal, its state saved: docs/running.md

Record = dict[str, Any]


def read(folder: Path) -> Record | None:
    """What ``stage.json`` says; None where there is none.

    Raises:
        ConfigError: it is no JSON object.
    """
    path = folder / FILE
    try:
        record = read_json(path)
    except FileNotFoundError:
        return None
    except ValueError as error:
        raise ConfigError(
            f"{path}: is no JSON ({error}): remove it, and the stage goes on from its checkpoint"
        ) from None
    if not isinstance(record, dict) or "state" not in record:
        raise ConfigError(f"{path}: holds no state of a stage: remove it, and the stage goes on from its checkpoint")
    return record


def write(folder: Path, record: Record) -> None:
    """Write ``stage.json``."""
    write_json(folder / FILE, record)


def begin(folder: Path, record: Record) -> Record:
    """Note that a stage's command starts, once more if it did before."""
    now = time.time()
    record = {**record, "state": "running", "began": now, "attempts": record.get("attempts", 0) + 1}
    record.setdefault("started", time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(now)))
    write(folder, record)
    return record


def end(folder: Path, record: Record, status: int) -> Record:
    """Note how the command ended; state "done" needs status 0 and what later stages read."""
    seconds = record.get("seconds", 0) + round(time.time() - record["began"], 1)
    record = {**record, "status": status, "seconds": seconds}
    record["state"] = {0: "done", AGAIN: "stopped"}.get(status, "failed")
    if status == 0:
        record.pop("lacks", None)
        if lacks := link_and_find(folder, record):
            record |= {"state": "failed", "lacks": lacks}
        elif record["checkpoint"]:
            record["checkpoint_sha256"] = sha256_of_bytes(folder / record["checkpoint"])
    write(folder, record)
    return record


def link_and_find(folder: Path, record: Record) -> str:
    """Link the checkpoint that later stages read; which file of the stage is not there, or nothing."""
    name, found = record["checkpoint"], record["found"]
    if found:
        if (newest := _newest(folder, found)) is None:
            return found
        link = folder / name
        link.unlink(missing_ok=True)
        link.symlink_to(newest.relative_to(folder))
    if name and not (folder / name).is_file():
        return name
    return "results.json" if record["scored"] and results_file(folder) is None else ""


def is_whole(folder: Path, record: Record) -> bool:
    """Whether what a complete stage leaves is still there."""
    checkpoint = not record["checkpoint"] or (folder / record["checkpoint"]).is_file()
    return checkpoint and not (record["scored"] and results_file(folder) is None)


def results_file(folder: Path) -> Path | None:
    """The newest results.json of a stage: beside it (ALBEF, X-VLM), or in a run's folder (METER, ViLT)."""
    if (folder / "results.json").is_file():
        return folder / "results.json"
    return _newest(folder, "*/version_*/results.json")


def _newest(folder: Path, pattern: str) -> Path | None:
    """Of the files that match, that of the latest version, the latest there."""
    return max(folder.glob(pattern), key=lambda path: (_version(path), path.stat().st_mtime_ns), default=None)


def _version(path: Path) -> int:
    numbers = [part.removeprefix("version_") for part in path.parts if part.startswith("version_")]
    return int(numbers[-1]) if numbers and numbers[-1].isdecimal() else -1


class LockedError(ConfigError):
    """Another process runs it."""


# Who runs it ------------------------------------------------------------------------------------------------------


@contextmanager
def locked(folder: Path) -> Iterator[int]:
    """The folder's lock, as a file descriptor that children may inherit: it is theirs, too, until they end.

    Raises:
        LockedError: another process has it.
    """
    with ExitStack() as stack:
        try:
            lock = stack.enter_context(held(_claim(folder)))
        except HeldError as error:
            raise LockedError(str(error)) from None
        yield lock


def is_locked(folder: Path) -> bool:
    """Whether a process runs the stage."""
    return is_held(_claim(folder))


def _claim(folder: Path) -> Claim:
    return Claim(folder, "stage", "stop it (kill -TERM and its number) and start again", "running the stage of")
