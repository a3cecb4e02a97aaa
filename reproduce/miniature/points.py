"""Checkpoints along a pre-training: every ``last.ckpt`` that a launcher writes is kept under a name of its own."""

from __future__ import annotations

import os
import threading
from pathlib import Path
from types import TracebackType

from vlp.checkpoint.weights import read_checkpoint

LAST = Path("checkpoints", "last.ckpt")
_SECONDS = 0.2  # between two looks; a launcher replaces the file as a whole


class KeptCheckpoints:
    """While the block runs, hard links to each ``last.ckpt`` below ``run``.

    Attributes:
        folder: of the links.
    """

    def __init__(self, run: Path, folder: Path) -> None:
        self.run, self.folder = run, folder
        self._seen: set[tuple[int, int]] = set()
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> KeptCheckpoints:
        self.folder.mkdir(parents=True, exist_ok=True)
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._ended.set()
        self._thread.join()
        self._look()

    def by_step(self) -> dict[int, Path]:
        """The links by their optimiser step, of a step the newest."""
        return {int(read_checkpoint(path, mmap=True)["global_step"]): path for path in sorted(self.folder.iterdir())}

    def _watch(self) -> None:
        while not self._ended.wait(_SECONDS):
            self._look()

    def _look(self) -> None:
        for last in self.run.rglob(str(LAST)):
            link = self.folder / f"{len(self._seen):04d}.ckpt"
            try:
                os.link(last, link)
            except FileNotFoundError:  # replaced at this moment: the next look finds the new one
                continue
            found = link.stat()
            identity = (found.st_ino, found.st_mtime_ns)
            if identity in self._seen:
                link.unlink()
            else:
                self._seen.add(identity)
