"""Two processes, half precision, recomputed activations: the same scripts, other keys."""

from __future__ import annotations

import math

import pytest
import torch

from tests.launch.albef.launcher import EPOCHS, NO_DROPOUT, STEPS, AlbefLauncher, Run
from tests.launch.albef.test_pretraining import METERS

QUEUES = ("image_queue", "text_queue")


@pytest.fixture(scope="module")
def two(albef: AlbefLauncher) -> Run:
    """EPIC on 8 pairs for each of two processes."""
    first, _ = albef.on_two_processes("Pretrain", *albef.teacher, "batch_size=8")
    return first


def test_two_processes_train(two: Run) -> None:
    assert two.output.count("2 process(es) run on the CPU with gloo") == 1
    for tag in (*(f"train/{meter}" for meter in METERS), "epic/train/epic_itc"):
        values = two.values(tag)
        assert len(values) == STEPS * EPOCHS and all(map(math.isfinite, values)), tag
    assert [line["epoch"] for line in two.log] == [*range(EPOCHS)]
    ranks = torch.load(two.checkpoint, weights_only=True)["ranks"]
    assert len(ranks) == 2 and not torch.equal(*(rank["random_state"]["torch"] for rank in ranks))


@pytest.mark.slow
def test_queues_take_the_pairs_of_both_processes(albef: AlbefLauncher) -> None:
    """The features that one process with the batch of both writes, those of the first process before the second's."""
    items = ("max_steps=1", *NO_DROPOUT)
    (both, _), alone = albef.on_two_processes("Pretrain", *items, "batch_size=8"), albef.run("Pretrain", *items)
    ours, theirs = (torch.load(run.checkpoint, weights_only=True)["state_dict"] for run in (both, alone))
    order = [*range(0, 16, 2), *range(1, 16, 2)]  # a sampler deals out the pairs by turns
    assert ours["queue_ptr"].item() == theirs["queue_ptr"].item() == 16
    for queue in QUEUES:
        assert torch.allclose(ours[queue][:, :16], theirs[queue][:, order], atol=1e-6)
        assert torch.equal(ours[queue][:, 16:], theirs[queue][:, 16:])
        assert not torch.allclose(theirs[queue][:, :16], theirs[queue][:, order], atol=1e-6)


@pytest.mark.slow
def test_torchrun_starts_the_processes(albef: AlbefLauncher, two: Run) -> None:
    options = ("--standalone", "--nproc_per_node=2")
    run = albef.cold("Pretrain", *albef.teacher, "batch_size=8", torchrun=options)
    assert run.metrics == two.metrics and run.log == two.log
    ours, theirs = (torch.load(each.checkpoint, weights_only=True)["state_dict"] for each in (run, two))
    assert ours.keys() == theirs.keys() and all(torch.equal(ours[key], theirs[key]) for key in ours)


@pytest.mark.slow
def test_bf16(albef: AlbefLauncher) -> None:
    items = (*albef.teacher, *NO_DROPOUT, "max_steps=2")
    half, whole = albef.run("Pretrain", *items, "precision=bf16"), albef.run("Pretrain", *items)
    for meter in METERS:
        ours, theirs = half.values(f"train/{meter}"), whole.values(f"train/{meter}")
        assert len(ours) == len(theirs) == 2 and all(map(math.isfinite, ours))
        if meter != "loss_itm":  # its negatives are drawn by the similarities
            assert ours[0] == pytest.approx(theirs[0], rel=0.02) and ours[0] != theirs[0]


@pytest.mark.slow
def test_gradient_checkpointing_gives_the_same_losses(albef: AlbefLauncher, vanilla: Run) -> None:
    run = albef.run("Pretrain", "gradient_checkpointing=True")
    for meter in METERS:
        assert run.values(f"train/{meter}") == pytest.approx(vanilla.values(f"train/{meter}"), rel=1e-5), meter
