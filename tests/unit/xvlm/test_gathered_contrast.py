"""Contrast over two processes is that of one process with both batches, and each takes the gradient of its own rows."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from torch import Tensor

from tests.launch.launcher import address
from tests.unit.xvlm.small import pretraining

RANKS, BATCH = 2, 3
IDS = torch.tensor([4, 7, 9, 7, 2, 4])  # images 4 and 7 are on both ranks


def features() -> Tensor:
    """(2, RANKS * BATCH, embed_dim) of images and of texts."""
    rng = torch.Generator().manual_seed(3)
    return torch.nn.functional.normalize(torch.randn(2, RANKS * BATCH, 8, generator=rng), dim=-1)


def contrasted(rows: slice, by_image: bool) -> dict[str, Tensor]:
    """The loss with the features of some rows, and its gradients."""
    model = pretraining()
    image_feat, text_feat = (each[rows].clone().requires_grad_() for each in features())
    loss = model.contrast(image_feat, text_feat, IDS[rows] if by_image else None)["itc_loss"]
    loss.backward()
    grads = {"image": image_feat.grad, "text": text_feat.grad, "temp": model.temp.grad}
    return {"loss": loss.detach(), **{name: grad for name, grad in grads.items() if grad is not None}}


def work(rank: int, folder: Path, meet: dict[str, str]) -> None:
    torch.set_num_threads(1)
    os.environ |= {**meet, "RANK": str(rank), "WORLD_SIZE": str(RANKS)}
    dist.init_process_group("gloo")
    rows = slice(rank * BATCH, (rank + 1) * BATCH)
    torch.save({by_image: contrasted(rows, by_image) for by_image in (False, True)}, folder / f"{rank}.pt")
    dist.destroy_process_group()


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> list[Any]:
    folder = tmp_path_factory.mktemp("contrast")
    mp.start_processes(work, (folder, address()), nprocs=RANKS, start_method="fork")
    return [torch.load(folder / f"{rank}.pt", weights_only=True) for rank in range(RANKS)]


@pytest.mark.parametrize("by_image", [False, True])
def test_it_is_that_of_one_process(results: list[Any], by_image: bool) -> None:
    whole = contrasted(slice(None), by_image)
    for result in results:
        torch.testing.assert_close(result[by_image]["loss"], whole["loss"])
        torch.testing.assert_close(result[by_image]["temp"], whole["temp"])
    for name in ("image", "text"):
        torch.testing.assert_close(torch.cat([result[by_image][name] for result in results]), whole[name])
