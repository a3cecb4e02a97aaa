"""Two processes on gloo: a model that tells its unused parameters, one that does not, and one that tells wrong ones."""

from __future__ import annotations

import multiprocessing
import os
import socket
from pathlib import Path
from typing import Any

import lightning as L
import pytest
import torch
import torch.multiprocessing as mp
from lightning.fabric.plugins.environments import LightningEnvironment
from torch import Tensor, nn
from torch.utils.data import DataLoader

from vlp.training.ddp import KnownUnusedDDP

STEPS = 3


class Silent(L.LightningModule):
    """Trains ``used``; ``spare`` gets no gradient."""

    def __init__(self) -> None:
        super().__init__()
        self.used, self.spare = nn.Linear(2, 1), nn.Linear(2, 1)

    def training_step(self, batch: Tensor, batch_idx: int) -> Tensor:
        return self.used(batch).square().mean()

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.1)


class Telling(Silent):
    def unused_parameters(self) -> list[str]:
        return ["spare.weight", "spare.bias"]


class Wrong(Silent):
    def unused_parameters(self) -> list[str]:
        return ["spare.weight", "spare.bias", "used.bias"]


MODELS = {model.__name__: model for model in (Silent, Telling, Wrong)}


def work(rank: int, folder: Path, port: int) -> None:
    torch.set_num_threads(1)
    where = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "NODE_RANK": "0", "LOCAL_RANK": str(rank)}
    os.environ.update(where)
    torch.save({name: trained(model, rank) for name, model in MODELS.items()}, folder / f"{rank}.pt")


def trained(kind: type[Silent], rank: int) -> dict[str, Any]:
    """The weights before and after, whether every step was searched, and what training was refused for."""
    torch.manual_seed(rank)  # every rank another model
    model = kind()
    result: dict[str, Any] = {"before": {name: p.detach().clone() for name, p in model.named_parameters()}, "error": ""}
    strategy = KnownUnusedDDP(process_group_backend="gloo", cluster_environment=LightningEnvironment())
    trainer = L.Trainer(
        accelerator="cpu",
        devices=2,
        strategy=strategy,
        max_steps=STEPS,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        use_distributed_sampler=False,
    )
    try:
        trainer.fit(model, DataLoader(torch.randn(STEPS, 1, 2), batch_size=None))  # type: ignore[arg-type]
    except RuntimeError as error:
        result["error"] = str(error)
    parameters = dict(model.named_parameters())
    return result | {
        "searches": strategy._ddp_kwargs["find_unused_parameters"],
        "after": {name: p.detach().clone() for name, p in parameters.items()},
        "trainable": all(p.requires_grad for p in parameters.values()),
    }


@pytest.fixture(scope="module")
def ranks(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, dict[str, Any]]]:
    folder = tmp_path_factory.mktemp("ranks")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    multiprocessing.set_forkserver_preload([__name__])
    mp.start_processes(work, (folder, port), nprocs=2, start_method="forkserver")
    return [torch.load(folder / f"{rank}.pt", weights_only=True) for rank in range(2)]


Ranks = list[dict[str, dict[str, Any]]]


@pytest.mark.parametrize(("name", "searches"), [("Silent", True), ("Telling", False)])
def test_only_a_model_that_tells_nothing_is_searched_and_both_train_alike(
    name: str, searches: bool, ranks: Ranks
) -> None:
    first, second = (rank[name] for rank in ranks)
    assert first["searches"] is second["searches"] is searches
    assert first["error"] == "" and first["trainable"]
    for key, start in first["before"].items():
        assert not torch.equal(start, second["before"][key])
        assert torch.equal(first["after"][key], second["after"][key])
        assert torch.equal(first["after"][key], start) is key.startswith("spare")  # sent by rank 0, too


def test_telling_changes_no_number(ranks: Ranks) -> None:
    for rank in ranks:
        assert all(torch.equal(value, rank["Silent"]["after"][key]) for key, value in rank["Telling"]["after"].items())


def test_a_gradient_of_what_is_called_unused_ends_the_run(ranks: Ranks) -> None:
    for rank in ranks:
        assert rank["Wrong"]["error"] == "unused_parameters() of the model names used.bias, which got a gradient"
