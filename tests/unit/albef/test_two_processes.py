"""Two processes on gloo: gradients, queues and weights of every script, divided optimiser states, host waits.

A step is replayed in one process, for each rank from the weights, the batch and the random state that it had.
"""

from __future__ import annotations

import os
from collections import Counter
from pathlib import Path
from typing import Any

import lightning as L
import pytest
import torch
import torch.multiprocessing as mp
from torch.nn.parallel import DistributedDataParallel

from albef.baseline import BASELINE
from tests.launch.launcher import address
from tests.unit.albef.task_runs import SCRIPTS, built, config_of, write_data
from tests.unit.meter.test_distributed import ROUNDING, difference, gradients_of, mean_of
from tests.unit.training.test_host_waits import BatchWaits
from tests.unit.yaml_ranks import Recorder, copies
from vlp.losses.total import total_loss

RANKS, BATCH = 2, 4
MOMENTUM = {"epic": {"enabled": True, "teacher": "momentum"}}
# Name of a run -> its script, and its keys.
RUNS: dict[str, tuple[str, dict[str, Any]]] = {
    **{script: (script, {"max_steps": 2}) for script in SCRIPTS},
    "epic": ("Pretrain", {**MOMENTUM, "max_steps": 4}),
    "sharded": ("Pretrain", {**MOMENTUM, "max_steps": 4, "shard_optimizer": True}),
}
QUEUES = {"Pretrain": ("image_queue", "text_queue"), "Retrieval": ("image_queue", "text_queue", "idx_queue")}
Results = dict[str, list[dict[str, Any]]]


class QueueRecorder(Recorder):
    """Keeps the share of the soft targets, too, and the queues behind a step."""

    def on_train_batch_start(self, trainer: L.Trainer, pl_module: Any, batch: Any, batch_idx: int) -> None:
        super().on_train_batch_start(trainer, pl_module, batch, batch_idx)
        assert isinstance(trainer.strategy.model, DistributedDataParallel)
        self.steps[-1]["alpha"] = pl_module.alpha(trainer.current_epoch, batch_idx, int(trainer.num_training_batches))

    def on_train_batch_end(self, trainer: L.Trainer, pl_module: Any, *arguments: Any) -> None:
        super().on_train_batch_end(trainer, pl_module, *arguments)
        self.steps[-1]["after"] = copies({name: b for name, b in pl_module.named_buffers() if "queue" in name})


def work(rank: int, folder: Path, meet: dict[str, str]) -> None:
    """Train all runs as rank ``rank``, and save what the tests look at."""
    torch.set_num_threads(1)
    os.environ |= {**meet, "RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2"}
    for name, (script, changes) in RUNS.items():
        config = run_config(name, folder, **changes)
        run, recorder = built(script, config).run, QueueRecorder()
        run.trainer.callbacks.append(recorder)  # type: ignore[attr-defined]
        run.trainer.fit(run.model, datamodule=run.datamodule)
        recorder.save(run.model, folder / f"{name}{rank}.pt")
    config = run_config("epic", folder, **MOMENTUM, max_steps=3, num_workers=1, log_every_n_steps=1000)
    run, waits = built("Pretrain", {**config, "output_dir": str(folder / "waits")}).run, BatchWaits()
    run.trainer.callbacks.append(waits)  # type: ignore[attr-defined]
    run.trainer.fit(run.model, datamodule=run.datamodule)
    found = {"waits": dict(waits.of_batches[1]), "tensors": len(run.trainer.optimizers[0].state)}
    torch.save(found, folder / f"waits{rank}.pt")


def run_config(name: str, folder: Path, **changes: Any) -> dict[str, Any]:
    output = {"output_dir": str(folder / name), "world_size": RANKS}
    return config_of(RUNS[name][0], folder, **output, **changes)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("ranks")
    write_data(folder)
    mp.start_processes(work, (folder, address()), nprocs=RANKS, start_method="fork")
    return folder


@pytest.fixture(scope="module")
def results(folder: Path) -> Results:
    names = (*RUNS, "waits")
    return {n: [torch.load(folder / f"{n}{rank}.pt", weights_only=True) for rank in range(RANKS)] for n in names}


def replayed(script: str, folder: Path, step: dict[str, Any]) -> Any:
    """The model behind a rank's step without the others."""
    model = BASELINE.scripts[script].model(run_config(script, folder))
    model.load_state_dict(step["state"])
    torch.set_rng_state(step["random"])
    total_loss(model.train()(step["batch"], step["alpha"])).backward()
    return model


@pytest.mark.parametrize("script", SCRIPTS)
def test_the_optimiser_gets_the_mean_of_the_ranks_gradients(script: str, folder: Path, results: Results) -> None:
    for i in range(2):
        steps = [result["steps"][i] for result in results[script]]
        own = [gradients_of(replayed(script, folder, step)) for step in steps]
        for step in steps:
            assert difference(step["gradients"], mean_of(own)) < ROUNDING
        assert difference(own[0], own[1]) > 1000 * ROUNDING


@pytest.mark.parametrize("script", QUEUES)
def test_both_ranks_queue_the_features_of_the_first_before_those_of_the_second(
    script: str, folder: Path, results: Results
) -> None:
    for i in range(2):
        first, second = (result["steps"][i] for result in results[script])
        assert all(torch.equal(first["after"][name], second["after"][name]) for name in first["after"])
        begin = int(first["state"]["queue_ptr"])
        own = [replayed(script, folder, step) for step in (first, second)]
        for name in QUEUES[script]:
            expected = first["state"][name].clone()
            for rank, model in enumerate(own):
                start = begin + rank * BATCH
                expected[:, start : start + BATCH] = getattr(model, name)[:, begin : begin + BATCH]
            torch.testing.assert_close(first["after"][name], expected)
        assert int(first["after"]["queue_ptr"]) == (begin + RANKS * BATCH) % 16


@pytest.mark.parametrize("name", RUNS)
def test_ranks_keep_equal_weights_momentum_models_and_queues(name: str, results: Results) -> None:
    first, second = (result["weights"] for result in results[name])
    assert first.keys() == second.keys()
    assert [key for key in first if not torch.equal(first[key], second[key]) and "train_" not in key] == []
    assert not any(result["searches"] for result in results[name])  # for parameters without a gradient


def test_divided_optimiser_states_give_equal_weights(results: Results) -> None:
    for plain, sharded in zip(results["epic"], results["sharded"], strict=True):
        assert all(torch.equal(sharded["weights"][key], value) for key, value in plain["weights"].items())
        assert sharded["state_size"] < 0.7 * plain["state_size"]
    assert sum(result["state_size"] for result in results["sharded"]) == results["epic"][0]["state_size"]
    before, after = results["epic"][0]["steps"][0]["state"], results["epic"][0]["weights"]
    assert not torch.equal(before["text_proj.weight"], after["text_proj.weight"])


def test_processes_wait_for_nothing_more_than_one_does(results: Results) -> None:
    for result in results["waits"]:
        assert result["waits"] == Counter(_local_scalar_dense=1 + result["tensors"])
