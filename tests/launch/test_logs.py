"""What a run of epochs logs whose steps are accumulated batches, every step or only every third."""

from __future__ import annotations

import json

import pytest

from tests.launch.launcher import LOSSES, SHARED_CODE, Launcher, Result

pytestmark = SHARED_CODE
# 64 captions: 4 batches an epoch, of which three make its first step and one its second.
ITEMS = ("per_gpu_batchsize=16", "batch_size=48", "max_steps=None", "max_epoch=3")
STEPS = 6
TAGS = (*LOSSES["meter"], "mlm/train/accuracy", "itm/train/accuracy", "data/wait_share")


@pytest.fixture(scope="module")
def every_step(launcher: Launcher) -> Result:
    return launcher.pretrain(*ITEMS, "log_every_n_steps=1")


@pytest.fixture(scope="module")
def every_third(launcher: Launcher) -> Result:
    return launcher.pretrain(*ITEMS, "log_every_n_steps=3")


def by_step(run: Result, tag: str) -> list[tuple[int, float]]:
    """(step, value) of every line with ``tag``."""
    lines = map(json.loads, (run.directory / "metrics.jsonl").read_text().splitlines())
    return [(line["step"], line[tag]) for line in lines if tag in line]


def test_a_step_of_several_batches_is_logged_once(every_step: Result) -> None:
    for tag in TAGS:
        assert [step for step, _ in by_step(every_step, tag)] == list(range(STEPS)), tag


def test_every_third_step_is_logged_with_the_values_of_that_step(every_step: Result, every_third: Result) -> None:
    for tag in TAGS:
        assert [step for step, _ in by_step(every_third, tag)] == [2, 5], tag
    for tag in TAGS[:-1]:  # all but what the clock says
        values = by_step(every_step, tag)
        assert by_step(every_third, tag) == [values[2], values[5]], tag
    rates = [dict(by_step(run, "lr-AdamW/pg3")) for run in (every_step, every_third)]
    assert rates[1] == {step: rates[0][step] for step in (2, 5)}


def test_epochs_are_logged_whatever_the_interval(every_step: Result, every_third: Result) -> None:
    for tag in ("mlm/train/loss_epoch", "itm/train/accuracy_epoch", "mlm/val/loss_epoch", "val/the_metric"):
        values = by_step(every_third, tag)
        assert [step for step, _ in values] == [1, 3, 5] and values == by_step(every_step, tag), tag


def test_the_schedule_ends_after_all_batches_of_all_epochs_over_the_accumulation(every_step: Result) -> None:
    """4 batches x 3 epochs // 3: the official length, although an epoch's last batch makes a step more."""
    rates = dict(by_step(every_step, "lr-AdamW/pg1"))
    assert list(rates.values()) == pytest.approx([0, 1e-3, 2 / 3 * 1e-3, 1 / 3 * 1e-3, 0, 0])
