"""Saliency without a pre-trained teacher through the launchers of METER and ViLT: each value trains and goes on."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import pytest
import torch

from epic_common.config import WITHOUT_TEACHER
from tests.launch.launcher import SHARED_CODE, Launcher, Result
from tests.launch.test_resume import ITEMS, STEPS, lines, same_end

pytestmark = pytest.mark.slow
EVERY = pytest.mark.parametrize("name", WITHOUT_TEACHER)
# So that the average differs from the student soon.
OWN = {"momentum": ("epic.teacher_decay=0.5",), "surprise": ("epic.surprise_passes=2",), "frequency": ()}


def epic_of(run: Result) -> Mapping[str, Any]:
    return torch.load(run.checkpoint, weights_only=True)["epic"]


@EVERY
def test_it_trains_without_a_teacher(name: str, launcher: Launcher) -> None:
    run = launcher.pretrain("max_steps=3", "val_check_interval=3", f"epic_{name}")
    for tag in ("epic_itc", "epic_gen", "epic_saliency_entropy"):
        values = run.values(f"epic/train/{tag}")
        assert len(values) == 3 and all(map(math.isfinite, values)), tag
    # No baseline's uniform choice: that has the entropy of the number of words.
    uniform = launcher.pretrain("max_steps=3", "epic_itc_lm").values("epic/train/epic_saliency_entropy")
    assert all(own < other for own, other in zip(run.values("epic/train/epic_saliency_entropy"), uniform, strict=True))
    checkpoint = torch.load(run.checkpoint, weights_only=True)
    parts = {".".join(key.split(".")[:2]) for key in checkpoint["state_dict"] if key.startswith("epic.")}
    assert parts == {"epic.generator", "epic.head"}
    state = checkpoint["epic"]
    assert state["teacher_sha256"] is None
    assert (state["average"] is not None, state["token_counts"] is not None) == (
        name == "momentum",
        name == "frequency",
    )
    assert ("token counts: " in run.output) == (name == "frequency")


@SHARED_CODE
@EVERY
def test_a_run_that_ended_early_goes_on_exactly(name: str, launcher: Launcher) -> None:
    """Two batches a step, in the middle of an epoch."""
    items = (*ITEMS, f"epic_{name}", *OWN[name])
    whole, half = launcher.pretrain(*items), launcher.pretrain(*items, "max_steps=3")
    resumed = launcher.pretrain(*items, f"resume_from={half.checkpoint}")
    assert "token counts" not in resumed.output
    second = lines(resumed)
    assert second == lines(whole)[-len(second) :] and '"step": 3,' in second[0]
    same_end(resumed, whole)
    if name == "momentum":
        assert epic_of(whole)["average"]["step"] == STEPS
        state = torch.load(whole.checkpoint, weights_only=True)["state_dict"]
        average = epic_of(whole)["average"]["weights"]
        key = "cross_modal_text_transform.weight"
        assert not torch.equal(average[key], state[key]) and torch.allclose(average[key], state[key], atol=0.05)


@SHARED_CODE
@pytest.mark.parametrize("name", ["momentum", "frequency"])
def test_two_processes_agree(name: str, launcher: Launcher) -> None:
    items = ("max_steps=3", "batch_size=8", "per_gpu_batchsize=4", "gradient_checkpointing=True", f"epic_{name}")
    first, _ = launcher.on_two_nodes(*launcher.pretraining, *launcher.items(*items))
    alone = launcher.pretrain("max_steps=1", f"epic_{name}")
    if name == "frequency":
        assert torch.equal(epic_of(first)["token_counts"], epic_of(alone)["token_counts"])
    else:
        assert epic_of(first)["average"]["step"] == 3
    assert all(map(math.isfinite, first.values("epic/train/epic_itc")))


@SHARED_CODE
def test_what_does_not_fit_is_refused_in_a_line(launcher: Launcher) -> None:
    for items, message in (
        (("epic_momentum", "saliency_cache=nowhere"), "with epic.teacher=momentum the teacher is another one in every"),
        (("epic_surprise", "saliency_cache=nowhere"), "only EPIC with epic.masking=saliency reads saliency"),
        (("epic_frequency", "saliency_cache=nowhere"), "only EPIC with epic.masking=saliency reads saliency"),
        (("epic_surprise", "epic.replacement=uniform"), "epic.masking='surprise' needs epic.replacement='lm'"),
        (("epic_momentum", "epic.saliency_layer=50"), "epic.saliency_layer=50: the student has"),
    ):
        run = launcher.pretrain(*items, check=False)
        last = run.output.splitlines()[-1]
        assert run.status == 1 and last.startswith("error: ") and message in last, run.output
