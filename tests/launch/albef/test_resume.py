"""Killed, stopped or cut, and gone on with: the numbers of a run that nothing has broken, bit by bit."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from tests.launch.albef.launcher import EPOCHS, STEPS, AlbefLauncher, Run
from tests.launch.test_resume import lines, tensors

LAST = STEPS * EPOCHS
# Queues, their pointer and the momentum models: what ALBEF has beside weights and an optimiser.
OWN_STATE = ("image_queue", "text_queue", "queue_ptr", "temp", "visual_encoder_m.cls_token", "text_proj_m.weight")


def same_end(run: Run, whole: Run) -> None:
    """Logs, weights, queues, momentum models, optimiser and random states at the end of both runs are equal."""
    assert run.log == whole.log
    assert lines(run) == lines(whole)
    files = ("checkpoints/last.ckpt", f"checkpoint_{EPOCHS - 1:02d}.pth")
    for ours, theirs in ([tensors(r.official(name)) for r in (run, whole)] for name in files):
        assert ours.keys() == theirs.keys() and len(ours) > 200
        assert [name for name, value in theirs.items() if not torch.equal(ours[name], value)] == []
    last = whole.official(files[0])
    assert set(OWN_STATE) < set(last["state_dict"]) and last["global_step"] == LAST


def after_steps(steps: int, number: int) -> Callable[[int, Path], None]:
    """Send a signal once ``steps`` steps are logged."""

    def during(process: int, output: Path) -> None:
        log = output / "metrics.jsonl"
        while not (log.exists() and log.read_text().count('"train/loss_mlm"') >= steps):
            os.kill(process, 0)  # it has not ended by itself
            time.sleep(0.005)
        os.killpg(process, number)

    return during


@pytest.fixture(scope="module", params=["epic", pytest.param("vanilla", marks=pytest.mark.slow)])
def whole(request: pytest.FixtureRequest, albef: AlbefLauncher) -> Run:
    run: Run = getattr(albef, request.param)
    return run


@pytest.fixture(scope="module")
def items(whole: Run, albef: AlbefLauncher) -> tuple[str, ...]:
    return albef.teacher if whole is albef.epic else ()


@pytest.mark.parametrize("step", [5, *(pytest.param(step, marks=pytest.mark.slow) for step in (1, 2, 3, 4, 6, 7))])
def test_a_killed_run_goes_on_at_its_step(step: int, albef: AlbefLauncher, whole: Run, items: tuple[str, ...]) -> None:
    """Of the steps after the last save nothing is left, and they are done again."""
    command = (*items, "save_every_n_steps=1")
    killed = albef.run("Pretrain", *command, check=False, during=after_steps(step, signal.SIGKILL))
    assert killed.status == -signal.SIGKILL
    free = ("num_workers=2", "save_every_n_steps=0", "resume_from=auto")
    resumed = albef.run("Pretrain", *items, *free, output=killed.directory)
    assert "[resume]" in resumed.output
    same_end(resumed, whole)


@pytest.mark.slow
@pytest.mark.parametrize("step", [2, 6])
def test_a_signal_stops_after_the_step(step: int, albef: AlbefLauncher, whole: Run, items: tuple[str, ...]) -> None:
    """All saves are the signal's."""
    stopped = albef.run("Pretrain", *items, check=False, during=after_steps(step, signal.SIGTERM))
    assert stopped.status == 75, stopped.output
    done = torch.load(stopped.checkpoint, weights_only=True, mmap=True)["global_step"]
    assert f"stopped by a signal after step {done}; status 75" in stopped.output and done < LAST
    resumed = albef.run("Pretrain", *items, "resume_from=auto", output=stopped.directory)
    same_end(resumed, whole)


@pytest.mark.slow
def test_a_run_that_max_steps_ended_goes_on_with_more(albef: AlbefLauncher, whole: Run, items: tuple[str, ...]) -> None:
    """In the middle of an epoch."""
    half = albef.run("Pretrain", *items, "max_steps=3")
    resumed = albef.run("Pretrain", *items, "resume_from=auto", output=half.directory)
    same_end(resumed, whole)


@pytest.mark.slow
def test_two_processes_go_on_as_two(albef: AlbefLauncher) -> None:
    items = (*albef.teacher, "batch_size=8")
    whole, _ = albef.on_two_processes("Pretrain", *items)
    half, _ = albef.on_two_processes("Pretrain", *items, "max_steps=3")
    resumed, _ = albef.on_two_processes("Pretrain", *items, "resume_from=auto", output=half.directory)
    same_end(resumed, whole)


def test_the_official_resume_goes_on_after_an_epoch(albef: AlbefLauncher, vanilla: Run) -> None:
    """``--resume --checkpoint``: weights, queues, optimiser and schedule of the file, and random states of its own."""
    first = vanilla.directory / "checkpoint_00.pth"
    resumed = albef.run("Pretrain", "--resume", "--checkpoint", str(first))
    assert [line["epoch"] for line in resumed.log] == [1]
    assert resumed.log[0]["train_lr"] == vanilla.log[1]["train_lr"]
    assert resumed.values("train/alpha") == vanilla.values("train/alpha")[STEPS:]
    # The same features in the queues: those of the clean pairs, of which dropout alone changes a little.
    ours, theirs = (run.official("checkpoint_01.pth") for run in (resumed, vanilla))
    assert ours["optimizer"]["state"][0]["step"] == theirs["optimizer"]["state"][0]["step"] == LAST
    assert torch.allclose(ours["model"]["itm_head.weight"], theirs["model"]["itm_head.weight"], atol=1e-3)


def test_a_complete_run_ends_at_once(albef: AlbefLauncher, vanilla: Run) -> None:
    again = albef.run("Pretrain", "resume_from=auto", output=vanilla.directory)
    assert "this run is complete, schedular.epochs=2" in again.output
    assert len(vanilla.log) == EPOCHS
