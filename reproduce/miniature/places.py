"""Where the miniature works and what is made of whom: folders, locks and hashes."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from demo.task_recipes import TaskSettings
from reproduce.miniature.settings import BaselineSettings, Miniature, digest
from vlp.baseline import get_baseline
from vlp.sacred_dialect.baseline import SacredBaseline

RESTVAL = 32  # pictures of the val split: a baseline's own validation reads them


@dataclass(frozen=True)
class Bench:
    """A baseline with its settings, and the folders that it works in.

    Attributes:
        name: the baseline's.
        settings: its own, as calibrated or as tried.
        miniature: all settings.
        work: folder of data, checkpoints and logs.
        results: folder of the files that stay.
    """

    name: str
    settings: BaselineSettings
    miniature: Miniature
    work: Path
    results: Path

    @property
    def is_sacred(self) -> bool:
        """Whether it is METER or ViLT; ALBEF and X-VLM have YAML files and a script a task."""
        return isinstance(get_baseline(self.name), SacredBaseline)

    @property
    def task(self) -> str:
        """That the last checkpoint is fine-tuned on: one whose official run scores it, too, and that needs no stage
        before it."""
        return "nlvr2" if self.is_sacred else "vqa"

    @property
    def data_hash(self) -> str:
        """Of what pictures, texts and language model are made of."""
        own = self.settings
        shared = self.miniature.model_dump(include={"scenes", "language_model"})
        return digest({**shared, "image_size": own.image_size, "width": own.width, "task": self.task})

    def tasks(self, seed: int) -> TaskSettings:
        """As the recipes of ``demo.tasks`` ask for them; the data lies in its folder ``data``."""
        scenes, steps = self.miniature.scenes, self.miniature.language_model.steps
        output = self.work / f"{self.name}_{self.data_hash}"
        counts = (scenes.images, RESTVAL, scenes.tested)
        return TaskSettings(self.name, output, (), *counts, lm_steps=steps, pretrain_epochs=1, seed=seed)


@contextmanager
def waiting_lock(path: Path) -> Iterator[None]:
    """Hold a lock file, once whoever has it is done."""
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)
