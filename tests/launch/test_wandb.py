"""``logger=wandb`` in wandb's offline mode: its run holds the metrics of metrics.jsonl, and is resumed with the run."""

from __future__ import annotations

import pytest

from tests.launch.launcher import SHARED_CODE, Launcher
from tests.launch.wandb_files import check_same_numbers, logged, offline

pytestmark = pytest.mark.slow


def pretraining(launcher: Launcher, *items: str) -> list[str]:
    return [*launcher.pretraining, *launcher.items("logger=wandb", *items)]


def test_the_numbers_are_those_of_the_other_logs(launcher: Launcher, monkeypatch: pytest.MonkeyPatch) -> None:
    offline(monkeypatch)
    run = launcher.cold(*pretraining(launcher))
    found = logged(run.directory)
    check_same_numbers(run.directory, found)
    assert list(run.directory.glob("events.out.*"))
    assert found.config["config"]["max_steps"] == 3 and found.config["config"]["datasets"] == ["coco"]

    resumed = launcher.cold(*pretraining(launcher, "max_steps=5", f"resume_from={run.checkpoint}"))
    again = logged(resumed.directory)
    check_same_numbers(resumed.directory, again)
    assert again.id == found.id and len(again.lines) > 1


@SHARED_CODE
def test_rank_0_alone_logs(launcher: Launcher, monkeypatch: pytest.MonkeyPatch) -> None:
    offline(monkeypatch)
    run = launcher.cold(*pretraining(launcher, "num_gpus=2"))
    check_same_numbers(run.directory, logged(run.directory))  # there is one


@SHARED_CODE
def test_without_a_login_the_run_does_not_begin(launcher: Launcher, monkeypatch: pytest.MonkeyPatch) -> None:
    from tests.launch.launcher import ENVIRONMENT

    monkeypatch.setitem(ENVIRONMENT, "WANDB_MODE", "online")
    monkeypatch.setitem(ENVIRONMENT, "HOME", "/nonexistent")
    for name in ("WANDB_API_KEY", "NETRC"):
        monkeypatch.delitem(ENVIRONMENT, name, raising=False)
    run = launcher.cold(*pretraining(launcher), check=False)
    assert run.status == 1 and "Traceback" not in run.output
    assert "error: logger=wandb: " in run.output and "WANDB_MODE=offline" in run.output
