"""``logger=wandb`` of X-VLM's scripts, in wandb's offline mode."""

from __future__ import annotations

import pytest

from tests.launch.wandb_files import check_same_numbers, logged, offline
from tests.launch.xvlm.launcher import XvlmLauncher

pytestmark = pytest.mark.slow


def test_the_numbers_are_those_of_the_other_logs(xvlm: XvlmLauncher, monkeypatch: pytest.MonkeyPatch) -> None:
    offline(monkeypatch)
    run = xvlm.cold("Pretrain", "logger=wandb", "max_steps=3")
    found = logged(run.directory)
    check_same_numbers(run.directory, found)
    assert found.config["config"]["logger"] == "wandb"
    last = run.directory / "checkpoints" / "last.ckpt"
    resumed = xvlm.cold("Pretrain", "logger=wandb", "max_steps=6", f"resume_from={last}")
    check_same_numbers(resumed.directory, logged(resumed.directory))
    assert logged(resumed.directory).id == found.id
