"""Saliency without a pre-trained teacher, by X-VLM's script over both streams."""

from __future__ import annotations

import math

import pytest
import torch

from tests.launch.xvlm.launcher import STEPS, XvlmLauncher

pytestmark = pytest.mark.slow
VALUES = {
    "momentum": ("epic.teacher=momentum", "epic.teacher_decay=0.5"),
    "surprise": ("epic.masking=surprise", "epic.on_regions=True"),
    "frequency": ("epic.masking=frequency",),
}


@pytest.mark.parametrize("name", VALUES)
def test_it_trains_and_goes_on_exactly(name: str, xvlm: XvlmLauncher) -> None:
    """The average follows the student after steps of regions, too, where EPIC takes no part."""
    own = ("epic.enabled=True", *VALUES[name], "save_every_n_steps=1")
    whole = xvlm.run("Pretrain", *own)
    values = whole.values("epic/train/epic_itc")
    assert values and all(map(math.isfinite, values))
    half = xvlm.run("Pretrain", *own, "max_steps=3")
    resumed = xvlm.run("Pretrain", *own, "resume_from=auto", output=half.directory)
    assert resumed.metrics == whole.metrics
    ours, theirs = (torch.load(run.checkpoint, weights_only=True) for run in (resumed, whole))
    assert all(map(torch.equal, ours["state_dict"].values(), theirs["state_dict"].values()))
    state = theirs["epic"]
    assert (state["average"] is not None, state["token_counts"] is not None) == (
        name == "momentum",
        name == "frequency",
    )
    if name == "momentum":
        assert state["average"]["step"] == theirs["global_step"] == 2 * STEPS
        mine = ours["epic"]["average"]["weights"]
        assert all(torch.equal(mine[key], value) for key, value in state["average"]["weights"].items())
        assert not any(key.startswith(("itm_head", "bbox_head", "epic")) for key in mine)


def test_two_processes_count_as_one(xvlm: XvlmLauncher) -> None:
    own = ("epic.enabled=True", *VALUES["frequency"], "max_steps=1")
    first, _ = xvlm.on_two_processes("Pretrain", *own)
    alone = xvlm.run("Pretrain", *own)
    counts = [torch.load(run.checkpoint, weights_only=True)["epic"]["token_counts"] for run in (first, alone)]
    assert torch.equal(*counts) and counts[0].sum() > 100
