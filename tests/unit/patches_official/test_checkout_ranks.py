"""The state of EPIC in a patched checkout over two processes: each rank goes on with its own draws and metrics."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from torch import Tensor

from epic_common.checkout import CheckoutEpic
from tests.unit.epic.tiny import VOCABULARY, WIDTH, epic_of, sentences


def new_epic() -> CheckoutEpic:
    like = epic_of("itc_lm", generator_dropout=False)
    return CheckoutEpic(like.config, VOCABULARY, WIDTH, like.generator, seed=0)


def drawn(epic: CheckoutEpic) -> Tensor:
    ids, mask = sentences(9, 4, 7)
    corruption = epic.corruption_of(ids, mask, {})
    epic.losses(torch.ones(*ids.shape, WIDTH), corruption)
    return corruption.input_ids


def work(rank: int, folder: str) -> None:
    torch.set_num_threads(1)
    epic = new_epic()  # before the ranks are known, as official launchers build their models
    dist.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=2)
    first, state = drawn(epic), epic.run_state()
    resumed = new_epic()
    resumed.head.load_state_dict(epic.head.state_dict())
    resumed.load_run_state(state)
    own_metrics = resumed.train_metrics.state_dict()["sums"]
    same = torch.equal(drawn(epic), drawn(resumed))
    logged = epic.metrics_due(step=10, every=10)["train"]["epic_itc"]
    torch.save({"first": first, "same": same, "metrics": own_metrics, "logged": logged}, f"{folder}/{rank}.pt")
    dist.destroy_process_group()


@pytest.mark.slow
def test_every_rank_draws_for_itself_and_resumes_its_own_state(tmp_path: Path) -> None:
    mp.spawn(work, (str(tmp_path),), nprocs=2)
    one, two = (torch.load(tmp_path / f"{rank}.pt", weights_only=True) for rank in range(2))
    assert one["same"] and two["same"]
    assert not torch.equal(one["first"], two["first"]) and not torch.equal(one["metrics"], two["metrics"])
    assert one["logged"] == two["logged"]  # over both
