"""EPIC under data parallelism: two processes, one shard each."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from epic_common.metrics import EpicMetrics
from tests.unit.epic.test_metrics import example
from tests.unit.epic.tiny import TinyModel, batch_of, epic_of, step


class Baseline(nn.Module):
    """A student that holds EPIC, as a baseline does."""

    def __init__(self, rank: int) -> None:
        super().__init__()
        torch.manual_seed(3)
        self.student, self.epic = TinyModel(), epic_of("epic", rank=rank)
        # the parts that EPIC's step does not use
        for part in (self.student.mlm, self.student.query, self.student.key):
            part.requires_grad_(False)

    def forward(self, batch: dict[str, Tensor]) -> Tensor:
        losses, self.corruption = step(self.epic, self.student, batch)
        return torch.stack(list(losses.values())).sum()


def work(rank: int, folder: str) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=2)
    baseline = Baseline(rank)
    model = DistributedDataParallel(baseline)  # without find_unused_parameters: every EPIC parameter is used
    optimiser = torch.optim.SGD((p for p in model.parameters() if p.requires_grad), lr=0.05)
    for _ in range(2):
        optimiser.zero_grad()
        model(batch_of(9, 4, 7)).backward()
        optimiser.step()
    metrics = EpicMetrics()
    for seed in (10, 11) if rank == 0 else (12,):
        logits, corruption = example(seed)
        metrics.update(logits, corruption, torch.tensor(float(seed)))
    result = {
        "weights": {name: p.detach() for name, p in baseline.named_parameters()},
        "masked": baseline.corruption.masked,
        "metrics": metrics.compute(),
    }
    torch.save(result, f"{folder}/{rank}.pt")
    dist.destroy_process_group()


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    folder = tmp_path_factory.mktemp("ranks")
    mp.start_processes(work, (str(folder),), nprocs=2, start_method="fork")
    return [torch.load(Path(folder) / f"{rank}.pt", weights_only=True) for rank in range(2)]


def test_ranks_keep_the_same_weights_and_ddp_never_sees_the_teacher(results: list[dict[str, Any]]) -> None:
    first, second = (result["weights"] for result in results)
    assert first.keys() == second.keys() == dict(Baseline(0).named_parameters()).keys()
    assert all(torch.equal(first[name], second[name]) for name in first)
    start = dict(Baseline(0).named_parameters())
    assert any(not torch.equal(first[name], start[name]) for name in first if name.startswith("epic.generator"))
    assert not torch.equal(first["epic.head.beta.weight"], start["epic.head.beta.weight"])


def test_ranks_draw_their_own_numbers(results: list[dict[str, Any]]) -> None:
    assert not torch.equal(results[0]["masked"], results[1]["masked"])


def test_metrics_are_those_of_all_ranks_together(results: list[dict[str, Any]]) -> None:
    together = EpicMetrics()
    for seed in (10, 11, 12):
        logits, corruption = example(seed)
        together.update(logits, corruption, torch.tensor(float(seed)))
    assert results[0]["metrics"] == results[1]["metrics"] == pytest.approx(together.compute())
