"""Patched checkouts of ALBEF and X-VLM over two processes: DDP averages EPIC's gradients, ranks draw for themselves."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import epic_albef
import epic_xvlm
import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from tests.unit.albef import epic as albef_epic
from tests.unit.patches_official.fusion_models import (
    albef_step,
    patched_albef,
    patched_xvlm,
    write_files,
    xvlm_step,
)
from tests.unit.xvlm import small as xvlm_small

MADE: dict[str, Any] = {"albef": patched_albef, "xvlm": patched_xvlm}
SUPPORT: dict[str, Any] = {"albef": epic_albef, "xvlm": epic_xvlm}
WORLD = 2


class Step(nn.Module):
    """A forward pass for DDP: EPIC's loss, and the parameters of the official losses with a gradient of 0."""

    def __init__(self, name: str, model: nn.Module) -> None:
        super().__init__()
        self.name, self.model = name, model

    def forward(self) -> Tensor:
        official = [p.sum() for name, p in self.model.named_parameters() if p.requires_grad and "epic." not in name]
        others = 0 * torch.stack(official).sum()
        if self.name == "albef":
            return albef_step(self.model, albef_epic.batch_of(), others)
        return xvlm_step(self.model, xvlm_small.pretraining_batch(), others)


def stepped(name: str, folder: Path, parallel: bool) -> tuple[dict[str, Tensor], list[dict[str, Tensor]]]:
    """EPIC's gradients of the first step, and its parameters on all ranks after the second."""
    torch.manual_seed(0)  # the same head on all ranks, as DDP has it; draws do not hang on this
    model = MADE[name](folder, generator_dropout=False).train()
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=1e-3)
    SUPPORT[name].add_groups({"model": model, "optimizer": optimizer})
    step: nn.Module = Step(name, model)
    if parallel:
        step = DistributedDataParallel(step)
    gradients: dict[str, Tensor] = {}
    for _ in range(2):  # DDP refuses the second where a parameter had no part in the first
        optimizer.zero_grad()
        step().backward()
        gradients = gradients or {key: p.grad.clone() for key, p in model.epic.named_parameters() if p.grad is not None}
        optimizer.step()
    own = {key: p.detach() for key, p in model.epic.named_parameters()}
    every: list[Any] = [None] * WORLD
    dist.all_gather_object(every, own)
    return gradients, every


def work(rank: int, name: str, folder: str) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=WORLD)
    alone, _ = stepped(name, Path(folder), parallel=False)
    averaged, parameters = stepped(name, Path(folder), parallel=True)
    torch.save({"alone": alone, "averaged": averaged, "parameters": parameters}, f"{folder}/{rank}.pt")
    dist.destroy_process_group()


@pytest.mark.slow
@pytest.mark.parametrize("name", MADE)
def test_ddp_averages_epics_gradients_over_ranks_that_draw_for_themselves(name: str, tmp_path: Path) -> None:
    write_files(tmp_path)
    mp.spawn(work, (name, str(tmp_path)), nprocs=WORLD)
    one, two = (torch.load(tmp_path / f"{rank}.pt", weights_only=True) for rank in range(WORLD))
    head = next(key for key in one["alone"] if key.startswith("head"))
    assert not torch.allclose(one["alone"][head], two["alone"][head])  # other words were replaced
    assert one["averaged"].keys() == one["alone"].keys() and any(key.startswith("generator.") for key in one["alone"])
    assert all(torch.equal(gradient, two["averaged"][key]) for key, gradient in one["averaged"].items())
    mean = {key: (gradient + two["alone"][key]) / WORLD for key, gradient in one["alone"].items()}
    torch.testing.assert_close(one["averaged"], mean)
    first, second = one["parameters"]
    assert all(torch.equal(value, second[key]) for key, value in first.items())
