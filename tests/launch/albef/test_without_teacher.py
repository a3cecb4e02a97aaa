"""Saliency without a pre-trained teacher, by ALBEF's script."""

from __future__ import annotations

import math

import pytest
import torch

from tests.launch.albef.launcher import AlbefLauncher

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("item", ["epic.teacher=momentum", "epic.masking=surprise", "epic.masking=frequency"])
def test_it_trains_and_goes_on(item: str, albef: AlbefLauncher) -> None:
    own = ("epic.enabled=True", item, "save_every_n_steps=1")
    whole = albef.run("Pretrain", *own, "max_steps=4")
    values = whole.values("epic/train/epic_itc")
    assert len(values) == 4 and all(map(math.isfinite, values))
    half = albef.run("Pretrain", *own, "max_steps=2")
    resumed = albef.run("Pretrain", *own, "max_steps=4", "resume_from=auto", output=half.directory)
    assert resumed.metrics == whole.metrics
    ours, theirs = (torch.load(run.checkpoint, weights_only=True) for run in (resumed, whole))
    assert all(map(torch.equal, ours["state_dict"].values(), theirs["state_dict"].values()))
    assert theirs["epic"]["average"] is None  # ALBEF has its momentum model
    assert (theirs["epic"]["token_counts"] is not None) == ("frequency" in item)


def test_a_decay_that_albef_does_not_read_is_refused(albef: AlbefLauncher) -> None:
    own = ("epic.enabled=True", "epic.teacher=momentum", "epic.teacher_decay=0.9")
    run = albef.run("Pretrain", *own, check=False)
    assert run.status == 1
    assert "epic.teacher_decay=0.9 is not possible with ALBEF: its own key momentum" in run.output.splitlines()[-1]
