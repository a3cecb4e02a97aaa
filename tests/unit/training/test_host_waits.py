"""What a GPU's host waits for in the micro-batches of real runs: nothing, and for one value at every optimiser step."""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import lightning as L
import pytest
import torch
import torch.multiprocessing as mp
from lightning.pytorch.callbacks import Callback
from torch import Tensor
from torch.overrides import TorchFunctionMode

from benchmarks.host_waits import HostWaits
from epic_vlp.cache_build import build_cache
from tests.launch.launcher import address
from tests.unit.training.small_runs import built, config_of, saved_teacher, write_data
from vlp.baseline import get_baseline


class HostCopies(TorchFunctionMode):
    """Adds to ``waits`` what copies between host and device by other ways than an operation that a CPU has, too."""

    def __init__(self, waits: HostWaits) -> None:
        super().__init__()
        self.waits = waits

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        new = func in (torch.tensor, torch.as_tensor) and not isinstance(args[0], Tensor)
        if (new and kwargs.get("device") is not None) or func in (Tensor.tolist, Tensor.cpu, Tensor.numpy):
            self.waits.found[func.__name__] += 1
        return func(*args, **kwargs)


class BatchWaits(Callback):
    """Counts the waits of every batch, from its fetching to what Lightning logs after the last callback.

    A run with a worker collates elsewhere: what this process does, it does with the run's device.
    """

    def __init__(self) -> None:
        self.of_batches: list[Counter[str]] = []

    def on_train_start(self, trainer: L.Trainer, pl_module: Any) -> None:
        loop: Any = trainer.fit_loop.epoch_loop
        loop.advance = self._counted(loop.advance)

    def _counted(self, advance: Callable[..., None]) -> Callable[..., None]:
        def counted(*arguments: Any) -> None:
            with HostWaits() as waits, HostCopies(waits):
                advance(*arguments)
            self.of_batches.append(waits.found)

        return counted


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("run")
    write_data(folder)
    return folder


def waits_of(name: str, folder: Path, *named: str, **changes: Any) -> list[Counter[str]]:
    """Of the batches of a run of three steps of two batches each."""
    run, waits = built(name, folder, *named, num_workers=1, **changes), BatchWaits()
    run.trainer.callbacks.append(waits)  # type: ignore[attr-defined]
    run.trainer.fit(run.model, datamodule=run.datamodule)
    assert run.trainer.global_step == 3
    return waits.of_batches


@pytest.mark.parametrize("named", [(), ("epic",), ("epic", "epic_vlm_sas")], ids=["vanilla", "epic", "vlm_sas"])
@pytest.mark.parametrize("name", ["meter", "vilt"])
def test_a_batch_waits_for_nothing_and_a_step_for_its_guard(name: str, named: tuple[str, ...], folder: Path) -> None:
    waits = waits_of(name, folder, *named, log_every_n_steps=1000)
    # A line of progress, which reads the loss, ends the run.
    assert waits[:4] == [Counter(), Counter(_local_scalar_dense=1)] * 2


@pytest.mark.parametrize(("name", "view"), [("meter", "clip"), ("vilt", "pixelbert")])
def test_nor_for_scores_of_a_saliency_cache(name: str, view: str, tmp_path: Path) -> None:
    write_data(tmp_path)
    teacher = saved_teacher(name, tmp_path)
    changes: dict[str, Any] = {"train_transform_keys": [view], "saliency_cache": str(tmp_path / "cache")}
    build_cache(get_baseline(name), config_of(name, tmp_path, "epic", teacher_path=teacher, **changes))
    waits = waits_of(name, tmp_path, "epic", log_every_n_steps=1000, **changes)
    assert waits[:4] == [Counter(), Counter(_local_scalar_dense=1)] * 2


@pytest.mark.parametrize("named", [(), ("epic",)], ids=["vanilla", "epic"])
def test_nor_in_half_precision(named: tuple[str, ...], folder: Path) -> None:
    waits = waits_of("meter", folder, *named, log_every_n_steps=1000, precision="bf16")
    assert waits[:4] == [Counter(), Counter(_local_scalar_dense=1)] * 2


def one_of_two(rank: int, folder: str, meet: dict[str, str]) -> None:
    torch.set_num_threads(1)
    os.environ.update({**meet, "NODE_RANK": str(rank)})
    waits = waits_of("meter", Path(folder), "epic", num_nodes=2, batch_size=16, log_every_n_steps=1000)
    Path(folder, f"waits_{rank}.json").write_text(json.dumps(waits))


def test_processes_that_exchange_gradients_wait_for_nothing_more(tmp_path: Path) -> None:
    """Nor do they ask each other anything before a batch."""
    write_data(tmp_path)
    saved_teacher("meter", tmp_path)
    mp.start_processes(one_of_two, (str(tmp_path), address()), nprocs=2, start_method="fork")
    for rank in range(2):
        waits = json.loads((tmp_path / f"waits_{rank}.json").read_text())
        assert waits[:4] == [{}, {"_local_scalar_dense": 1}] * 2


def test_a_log_interval_reads_what_it_logs_at_its_end_alone(folder: Path) -> None:
    waits = waits_of("meter", folder, "epic", log_every_n_steps=2)
    assert waits[:3] == [Counter(), Counter(_local_scalar_dense=1), Counter()]
    assert waits[3].total() > 1
