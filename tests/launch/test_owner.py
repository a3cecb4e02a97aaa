"""One run per output folder, through the real launchers."""

from __future__ import annotations

import os

from tests.hostile.groups import OWNER
from tests.hostile.harness import keeps_its_promise, nothing_changes, pretrained
from tests.hostile.table import Row
from tests.launch.launcher import SHARED_CODE, Launcher
from vlp.owner import Claim, held


@SHARED_CODE
def test_two_runs_that_start_at_once_have_two_folders(launcher: Launcher) -> None:
    """METER and ViLT number them: neither is refused, and each has all of its own lines."""
    line = (*launcher.pretraining, *launcher.items("max_steps=2"))
    first, _ = launcher.together([{}, {}], *line)
    folders = sorted(first.log_dir.glob("*/version_*"))
    assert [folder.name for folder in folders] == ["version_0", "version_1"]
    for folder in folders:
        steps = [line for line in (folder / "metrics.jsonl").read_text().splitlines() if '/train/loss":' in line]
        assert len(steps) == 2
        assert (folder / "checkpoints" / "last.ckpt").is_file() and not (folder / ".run.lock").exists()


@SHARED_CODE
def test_a_run_that_is_not_over_is_not_gone_on_with(launcher: Launcher) -> None:
    run = launcher.pretrain("max_steps=2")
    row = Row(OWNER, "resume_from=auto max_steps=4", 1, (f"error: process {os.getpid()} on ", "give another exp_name"))
    with held(Claim(run.directory)), nothing_changes(run.log_dir):
        keeps_its_promise(row, pretrained(launcher, run.log_dir, *row.items))
    keeps_its_promise(row._replace(status=0, words=()), pretrained(launcher, run.log_dir, *row.items))
