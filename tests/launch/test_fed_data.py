"""A run that goes on with other tables than its checkpoint's: refused by file, or meant."""

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
from tests.launch.launcher import OTHERS_SLOW, Launcher, Result
from tests.unit.data.raw import read_table, write_table
from vlp.data.arrow.writer import CAPTION

pytestmark = OTHERS_SLOW
TABLE = "coco_caption_karpathy_train.arrow"
Rows = list[dict[str, Any]]


@pytest.fixture(scope="module")
def half(launcher: Launcher) -> Result:
    """Two of the steps of an epoch."""
    return launcher.pretrain("max_steps=2", "batch_size=8")


def others(launcher: Launcher, folder: Path, change: Callable[[Rows], Rows] | None = None) -> Path:
    """A copy of the tables, without the manifest and the checksums that their converter left."""
    shutil.copytree(launcher.data / "arrow", folder, ignore=shutil.ignore_patterns("*.json", "*.crc32"))
    if change is not None:
        write_table(folder / TABLE, change(read_table(folder / TABLE)), CAPTION)
    return folder


def gone_on(launcher: Launcher, half: Result, data: Path, *items: str) -> Result:
    shared = ("batch_size=8", f"data_root={data}", f"resume_from={half.checkpoint}")
    return launcher.pretrain(*shared, "max_steps=4", *items, check=False)


def test_a_moved_folder_is_no_change(launcher: Launcher, half: Result, tmp_path: Path) -> None:
    run = gone_on(launcher, half, others(launcher, tmp_path / "arrow"))
    assert run.status == 0 and "other data" not in run.output, run.output
    assert "it is not known whether" not in run.output


CHANGES: dict[str, Callable[[Rows], Rows]] = {
    "changed": lambda rows: [{**rows[0], "caption": ["another one"] * len(rows[0]["caption"])}, *rows[1:]],
    "reordered": lambda rows: rows[::-1],
    "removed": lambda rows: rows[1:],
}


@pytest.mark.parametrize("change", CHANGES)
def test_other_captions_are_refused(change: str, launcher: Launcher, half: Result, tmp_path: Path) -> None:
    run = gone_on(launcher, half, others(launcher, tmp_path / "arrow", CHANGES[change]))
    row = Row(DATA, "resume_from=last.ckpt", 1, (f"its run was fed other data: {TABLE} (train/coco)", "=data"))
    keeps_its_promise(row, Ended(run.status, run.output))
    assert not list(run.log_dir.glob("*"))


def test_other_captions_that_are_meant(launcher: Launcher, half: Result, tmp_path: Path) -> None:
    """Rows removed in mid-epoch: it goes on, and its own checkpoint knows the new data."""
    data = others(launcher, tmp_path / "arrow", CHANGES["removed"])
    run = gone_on(launcher, half, data, "resume_anyway=data")
    row = Row(DATA, "resume_anyway=data", 0, (f"[resume] other data from here on: {TABLE} (train/coco)",))
    keeps_its_promise(row, Ended(run.status, run.output))
    noted = json.loads((run.directory / "config.json").read_text())["resumed_from"]
    assert f"{TABLE} (train/coco)" in noted["changed"]
    again = gone_on(launcher, run, data, "max_steps=5")
    assert again.status == 0 and "other data" not in again.output, again.output
