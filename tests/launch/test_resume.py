"""Killed, stopped or cut, and gone on with: the numbers of a run that nothing has broken, bit by bit."""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.launch.launcher import OTHERS_SLOW, SHARED_CODE, Launcher, Result
from tests.unit.training.test_exact_resume import timeless

# 64 captions: 8 batches, so 4 steps an epoch; a validation in the middle of each epoch and at its end.
STEPS = 7
ITEMS = (
    *("per_gpu_batchsize=8", "batch_size=16", "val_check_interval=4", "save_every_n_steps=1", f"max_steps={STEPS}"),
    *("warmup_steps=5", "end_lr=0.000999999999999999"),  # the rates do not depend on max_steps
)


def lines(run: Result) -> list[str]:
    """Lines of metrics.jsonl as text, less what is measured: equal text is equal bits, and NaN equals NaN."""
    return timeless((run.directory / "metrics.jsonl").read_text())


def tensors(value: Any, name: str = "") -> dict[str, torch.Tensor]:
    """Every tensor in a checkpoint by its place."""
    if isinstance(value, torch.Tensor):
        return {name: value}
    if isinstance(value, dict):
        pairs = list(value.items())
    elif isinstance(value, list | tuple):
        pairs = list(enumerate(value))
    else:
        return {}
    return {key: tensor for k, v in pairs for key, tensor in tensors(v, f"{name}/{k}").items()}


def same_end(run: Result, whole: Result) -> None:
    """Weights, optimiser, running means and random states at the end of both runs are equal."""
    states = [torch.load(r.checkpoint, weights_only=True) for r in (run, whole)]
    bests = [next(value for key, value in s.pop("callbacks").items() if "BestCheckpoint" in key) for s in states]
    assert bests[0]["best_model_score"] == bests[1]["best_model_score"]
    ours, theirs = map(tensors, states)
    assert ours.keys() == theirs.keys() and len(ours) > 200
    assert [name for name, value in theirs.items() if not torch.equal(ours[name], value)] == []


def continues(broken: Result, resumed: Result, whole: Result) -> None:
    """Both parts log what the whole run logs, without a gap between them, and end in the same state."""
    first, second, expected = lines(broken), lines(resumed), lines(whole)
    assert first == expected[: len(first)]
    assert second == expected[-len(second) :]
    assert len(first) + len(second) >= len(expected)
    same_end(resumed, whole)


def after_steps(steps: int, number: int, pause: float = 0.0, group: bool = False) -> Callable[[int, Path], None]:
    """Send a signal once ``steps`` steps are logged, ``pause`` seconds later."""

    def during(process: int, log_dir: Path) -> None:
        while True:
            logs = list(log_dir.glob("*/version_0/metrics.jsonl"))
            if logs and logs[0].read_text().count('"mlm/train/loss"') >= steps:
                break
            os.kill(process, 0)  # it has not ended by itself
            time.sleep(0.005)
        time.sleep(pause)
        (os.killpg if group else os.kill)(process, number)

    return during


@pytest.fixture(scope="session")
def items(launcher: Launcher) -> tuple[str, ...]:
    return (*ITEMS, *launcher.teacher)


@pytest.fixture(scope="session")
def whole(launcher: Launcher, items: tuple[str, ...]) -> Result:
    return launcher.pretrain(*items)


@SHARED_CODE
@pytest.mark.parametrize("cut", [3, pytest.param(4, marks=pytest.mark.slow)])
def test_a_run_that_max_steps_ended_goes_on_with_more(
    cut: int, launcher: Launcher, whole: Result, items: tuple[str, ...]
) -> None:
    """In the middle of an epoch (6 of its 8 batches) and at its end: no epoch is left out or repeated."""
    half = launcher.pretrain(*items, f"max_steps={cut}")
    resumed = launcher.pretrain(*items, f"resume_from={half.checkpoint}", "num_workers=2")
    second, expected = lines(resumed), lines(whole)
    assert second == expected[-len(second) :] and f'"step": {cut},' in second[0]
    same_end(resumed, whole)
    header = json.loads((resumed.directory / "config.json").read_text())
    changes = {"max_steps": {"was": cut, "now": STEPS}}
    assert header["resumed_from"] == {"checkpoint": str(half.checkpoint), "step": cut, "changed": changes}


@SHARED_CODE
def test_an_interrupted_log_interval_and_a_snapshot_of_the_student_go_on(launcher: Launcher) -> None:
    """EPIC's metrics are logged every third step, with all batches since; an epoch, 4 steps, renews the snapshot."""
    changes = ("epic_vlm_sas", launcher.teacher[1], "val_check_interval=8", "log_every_n_steps=3")
    items = (*ITEMS, *changes, "max_steps=6", "warmup_steps=7")
    whole, half = launcher.pretrain(*items), launcher.pretrain(*items, "max_steps=5")
    resumed = launcher.pretrain(*items, f"resume_from={half.checkpoint}")
    assert lines(resumed) == lines(whole)[-len(lines(resumed)) :]
    of_epic = [[line for line in lines(run) if '"epic/train/' in line] for run in (whole, half, resumed)]
    assert list(map(len, of_epic)) == [2, 1, 1] and of_epic[0] == of_epic[1] + of_epic[2]
    same_end(resumed, whole)
    assert torch.load(resumed.checkpoint, weights_only=True)["epic"]["snapshot"]["refreshed_at"] == 4
    each = launcher.pretrain(*items, "log_every_n_steps=1", "max_steps=3").values("epic/train/epic_itc")
    assert len(each) == 3 and whole.values("epic/train/epic_itc")[0] == pytest.approx(sum(each) / 3, rel=1e-6)


@OTHERS_SLOW
@pytest.mark.parametrize("number", [signal.SIGTERM, pytest.param(signal.SIGUSR1, marks=pytest.mark.slow)])
def test_a_signal_to_the_group_stops_after_the_step(
    number: signal.Signals, launcher: Launcher, whole: Result, items: tuple[str, ...]
) -> None:
    """As SLURM sends it: to loader workers too, which must live until the step is done. All saves are the signal's."""
    moment = after_steps(2, number, group=True)
    stopped = launcher.pretrain(*items, "save_every_n_steps=0", "num_workers=2", check=False, during=moment)
    assert stopped.status == 75, stopped.output
    assert f"{number.name}: finishing the step" in stopped.output
    step = torch.load(stopped.checkpoint, weights_only=True, mmap=True)["global_step"]
    assert f"stopped by a signal after step {step}; status 75" in stopped.output
    resumed = launcher.pretrain(*items, "resume_from=auto", log_dir=stopped.log_dir)
    continues(stopped, resumed, whole)
    assert len(lines(stopped)) + len(lines(resumed)) == len(lines(whole))  # nothing is done twice


@SHARED_CODE
def test_a_broken_last_checkpoint_costs_some_steps_and_not_the_run(
    launcher: Launcher, whole: Result, items: tuple[str, ...]
) -> None:
    """The best one, of the validation after step 2 or 4, takes its place; where that is broken, too, nothing starts."""
    half = launcher.pretrain(*items, "max_steps=5")
    (best,) = half.checkpoint.parent.glob("epoch=*.ckpt")
    contents = best.read_bytes()
    for path in (half.checkpoint, best):
        path.write_bytes(path.read_bytes()[:-5000])
    command = (*items, "resume_from=auto")
    refused = launcher.pretrain(*command, log_dir=half.log_dir, check=False)
    assert refused.status == 1 and "Traceback" not in refused.output
    assert refused.output.splitlines()[-1].startswith(f"error: resume_from=auto: {half.directory.parent} has 2 check")
    assert [path.name for path in half.directory.parent.iterdir()] == ["version_0"]
    best.write_bytes(contents)
    resumed = launcher.pretrain(*command, log_dir=half.log_dir)
    step = torch.load(best, weights_only=True, mmap=True)["global_step"]
    assert f"[resume] auto: passed over, {half.checkpoint}: " in resumed.output
    assert step in (2, 4) and f"auto: goes on from step {step}; the log goes to step 5: " in resumed.output
    assert lines(resumed) == lines(whole)[-len(lines(resumed)) :]
    same_end(resumed, whole)


# Two processes -------------------------------------------------------------------------------------------

TWO = ("num_gpus=2", "per_gpu_batchsize=4")


@pytest.fixture(scope="session")
def whole_of_two(launcher: Launcher, items: tuple[str, ...]) -> Result:
    first, _ = launcher.on_two_nodes(*launcher.pretraining, *launcher.items(*items, "per_gpu_batchsize=4"))
    return first


@OTHERS_SLOW
def test_a_signal_to_one_process_stops_both(launcher: Launcher, whole_of_two: Result, items: tuple[str, ...]) -> None:
    """The first process alone gets it; the second ends at the same step, and nothing is left running."""
    command = [*items, *TWO, "save_every_n_steps=0"]
    stopped = launcher.pretrain(*command, check=False, during=after_steps(2, signal.SIGUSR1))
    assert stopped.status == 75 and stopped.output.count("stopped by a signal after step") == 1, stopped.output
    resumed = launcher.pretrain(*command, "resume_from=auto", log_dir=stopped.log_dir)
    continues(stopped, resumed, whole_of_two)
    assert len(lines(stopped)) + len(lines(resumed)) == len(lines(whole_of_two))
    ranks = torch.load(resumed.checkpoint, weights_only=True)["ranks"]
    assert len(ranks) == 2 and not torch.equal(*(rank["random_state"]["torch"] for rank in ranks))


# Refusals ------------------------------------------------------------------------------------------------


@SHARED_CODE
def test_what_cannot_be_gone_on_with_is_refused(launcher: Launcher, whole: Result, tmp_path: Path) -> None:
    other = launcher.pretrain("max_steps=1", "seed=1").checkpoint
    of_a_gpu = torch.load(whole.checkpoint, weights_only=True)
    of_a_gpu["ranks"][0]["random_state"]["cuda"] = torch.zeros(16, dtype=torch.uint8)
    torch.save(of_a_gpu, tmp_path / "gpu.ckpt")
    resume = f"resume_from={whole.checkpoint}"
    refusals = {
        ("epic", f"teacher_path={other}", resume): "its run had the teacher of sha256",
        (resume, "resume_anyway=epic"): "is of another model: it has epic.generator.",
        (resume, *launcher.teacher, "num_gpus=2", "batch_size=32", "resume_anyway=batch_size"): (
            "num_replicas was 1, is 2"
        ),
        (f"resume_from={tmp_path / 'gpu.ckpt'}", *launcher.teacher): (
            "gpu.ckpt: its run drew on a GPU, and this process runs on the CPU: go on where there is a GPU"
        ),
        (resume, *launcher.teacher, "hidden_size=64", "resume_anyway=hidden_size"): "does not fit the model: ",
    }
    for command, message in refusals.items():
        run = launcher.pretrain(*ITEMS, "max_steps=9", *command, check=False)
        assert run.status == 1 and "Traceback" not in run.output, run.output
        assert message in run.output.splitlines()[-1], run.output
        assert not list(run.log_dir.glob("*"))
