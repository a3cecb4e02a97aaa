"""A run that goes on with other lists than its checkpoint's."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.hostile.groups import DATA
from tests.hostile.harness import Ended, keeps_its_promise
from tests.hostile.table import Row
from tests.launch.albef.launcher import EPOCHS, STEPS, AlbefLauncher, Run

Rows = list[dict[str, Any]]
CHANGES: dict[str, Callable[[Rows], Rows]] = {
    "changed": lambda rows: [{**rows[0], "caption": "another one"}, *rows[1:]],
    "reordered": lambda rows: rows[::-1],
    "removed": lambda rows: rows[1:],
}


@pytest.fixture(scope="module")
def half(albef: AlbefLauncher) -> Run:
    """Two steps of an epoch."""
    return albef.run("Pretrain", "max_steps=2")


def gone_on(albef: AlbefLauncher, half: Run, folder: Path, change: Callable[[Rows], Rows], *items: str) -> Run:
    """From a copy of the run, on a moved list."""
    rows = json.loads((albef.data / "lists/coco.json").read_text())
    folder.mkdir()
    (folder / "coco.json").write_text(json.dumps(change(rows)))
    output = shutil.copytree(half.directory, folder / "run")
    moved = (f"train_file=[{folder / 'coco.json'}]", "resume_from=auto")
    return albef.run("Pretrain", *moved, *items, output=output, check=False)


def test_a_moved_list_is_no_change(albef: AlbefLauncher, half: Run, vanilla: Run, tmp_path: Path) -> None:
    run = gone_on(albef, half, tmp_path / "moved", lambda rows: rows)
    assert run.status == 0 and "other data" not in run.output and run.log == vanilla.log, run.output


@pytest.mark.parametrize("change", CHANGES)
def test_other_captions_are_refused_unless_meant(change: str, albef: AlbefLauncher, half: Run, tmp_path: Path) -> None:
    run = gone_on(albef, half, tmp_path / "refused", CHANGES[change])
    words = "its run was fed other data: coco.json (train/coco) was "
    row = Row(DATA, "resume_from=auto", 1, (words, "go on with them as they are: resume_anyway=data"))
    keeps_its_promise(row, Ended(run.status, run.output))
    if change == "removed":
        run = gone_on(albef, half, tmp_path / "meant", CHANGES[change], "resume_anyway=data")
        row = Row(DATA, "resume_anyway=data", 0, ("[resume] other data from here on: coco.json (train/coco)",))
        keeps_its_promise(row, Ended(run.status, run.output))
        assert len(run.log) == EPOCHS and run.official("checkpoints/last.ckpt")["global_step"] <= STEPS * EPOCHS
