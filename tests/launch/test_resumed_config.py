"""A run that goes on with another configuration than its checkpoint's: refused, or taken over and said."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.launch.launcher import SHARED_CODE, Launcher, Result
from tests.launch.test_resume import lines

pytestmark = SHARED_CODE
WAS = "its run had another configuration: "


@pytest.fixture(scope="module")
def half(launcher: Launcher) -> Result:
    """Two steps of two batches, 4 of the 8 batches of an epoch."""
    return launcher.pretrain("max_steps=2", *two_batches(launcher))


def two_batches(launcher: Launcher) -> tuple[str, ...]:
    return (*launcher.teacher, "batch_size=16", "val_check_interval=8")


def test_what_changes_the_numbers_is_refused(launcher: Launcher, half: Result) -> None:
    rate = "learning_rate was 0.001, is 0.002"
    last = "resume_from={} has done 2 steps: give a larger max_steps to go on"
    refusals = {
        ("learning_rate=2e-3",): f"{WAS}{rate}. Give the old values, or go on with the new ones: "
        "resume_anyway=learning_rate",
        ("batch_size=32", "learning_rate=2e-3"): f"{WAS}batch_size was 16, is 32; {rate}",
        ("per_gpu_batchsize=4", "resume_anyway=learning_rate"): f"{WAS}per_gpu_batchsize was 8, is 4",
        ("epic.mask_ratio=0.4",): f"{WAS}epic.mask_ratio was 0.35, is 0.4",
        ("epic.enabled=False",): f"{WAS}epic.enabled was True, is False",
        ("hidden_size=64",): f"{WAS}hidden_size was 32, is 64",
        ("eval_split=val", "val_check_interval=4"): "val_check_interval was 8, is 4; eval_split was 'test', is 'val'",
        ("seed=1", "resume_anyway=seed"): "seed was 0, is 1; a run keeps its seed",
        ("per_gpu_batchsize=3", "resume_anyway=per_gpu_batchsize"): "which batches of 3 do not divide",
        ("max_steps=1",): "max_steps=1, but " + last.format(half.checkpoint),
        (
            "resume_anyway=learning_rat",
        ): "resume_anyway=learning_rat: there is no such key; did you mean 'learning_rate'",
        ("resume_anyway=3",): "resume_anyway=3: expected keys or blocks of keys: a,b, or a list",
    }
    for command, message in refusals.items():
        shared = (*two_batches(launcher), f"resume_from={half.checkpoint}")
        run = launcher.pretrain(*shared, *command, check=False)
        assert run.status == 1 and "Traceback" not in run.output, run.output
        last_line = run.output.splitlines()[-1]
        assert last_line.startswith("error: ") and message in last_line, run.output
        assert not list(run.log_dir.glob("*"))


def test_a_complete_run_says_so_and_succeeds(launcher: Launcher, half: Result) -> None:
    """A batch script starts it again until it does."""
    shared = ("max_steps=2", *two_batches(launcher), "resume_from=auto")
    run = launcher.pretrain(*shared, log_dir=half.log_dir)
    message = f"{half.checkpoint}: this run is complete, max_steps=2; a larger max_steps makes it longer"
    assert message in run.output.splitlines() and "Traceback" not in run.output
    assert [path.name for path in half.directory.parent.iterdir()] == ["version_0"]


def header(run: Result) -> dict[str, Any]:
    return json.loads((run.directory / "config.json").read_text())["resumed_from"]


def test_listed_changes_take_effect_and_stay(launcher: Launcher, half: Result) -> None:
    """The rates from the first step on; a mid-epoch change of batches goes on at the same sample."""
    new = ("learning_rate=1e-2", "per_gpu_batchsize=4", "epic.mask_ratio=0.4", "warmup_steps=1", "end_lr=0.005")
    shared = (*two_batches(launcher), *new, "max_steps=6", "log_every_n_steps=1", "save_every_n_steps=1")
    anyway = "resume_anyway=[learning_rate,per_gpu_batchsize,end_lr,epic]"
    resumed = launcher.pretrain(*shared, f"resume_from={half.checkpoint}", anyway)
    # A line from 1e-2 after step 1 to 5e-3 after step 6.
    assert resumed.values("lr-AdamW/pg1") == pytest.approx([1e-2 - 1e-3 * step for step in (1, 2, 3, 4)])
    assert [line["step"] for line in resumed.metrics if "mlm/train/loss" in line] == [2, 3, 4, 5]
    changes: dict[str, Any] = {
        "max_steps": {"was": 2, "now": 6},
        "learning_rate": {"was": 1e-3, "now": 1e-2},
        "per_gpu_batchsize": {"was": 8, "now": 4},
        "end_lr": {"was": 0, "now": 0.005},
        "epic.mask_ratio": {"was": 0.35, "now": 0.4},
    }
    assert header(resumed) == {"checkpoint": str(half.checkpoint), "step": 2, "changed": changes}
    (said,) = (line for line in resumed.output.splitlines() if "[resume] from here on: " in line)
    assert all(f"{key} was {change['was']}, is {change['now']}" in said for key, change in changes.items()), said
    # Its own checkpoint has the new values: nothing is changed any more, listed or not.
    again = launcher.pretrain(*shared, "max_steps=7", f"resume_from={resumed.checkpoint}", anyway)
    assert header(again)["changed"] == {"max_steps": {"was": 6, "now": 7}}
    assert len(lines(again)) > 0 and again.values("lr-AdamW/pg1") == pytest.approx([0.01 - 0.005 * 5 / 6])
