"""Two processes on gloo: gradients, weights, streams and random numbers, divided optimiser states, apex, going on.

A step is replayed in one process, for each rank from the weights, the batch and the random state that it had.
"""

from __future__ import annotations

import os
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.multiprocessing as mp
from torch import Tensor

from tests.launch.launcher import address
from tests.launch.test_resume import tensors
from tests.unit.meter.test_distributed import ROUNDING, difference, gradients_of, mean_of
from tests.unit.training.test_host_waits import BatchWaits
from tests.unit.xvlm.small_runs import BASELINE, built, config_of, write_data
from tests.unit.yaml_ranks import Recorder
from vlp.losses.total import total_loss
from vlp.training.run import train
from xvlm.accelerators import apex as apex_module
from xvlm.models import xvlm

RANKS, STEPS = 2, 4
STUB = str(Path(__file__).parent / "stubs/nvidia")
# Name of a run -> its keys.
RUNS: dict[str, dict[str, Any]] = {
    "native": {},
    "sharded": {"shard_optimizer": True},
    "images": {"train_file_regions": []},
    "apex": {"accelerator": {"backend": "apex"}, "precision": None},
}
CUTS = (1, 3, 7)
Results = dict[str, list[dict[str, Any]]]


def work(rank: int, folder: Path, meet: dict[str, str]) -> None:
    """Train all runs as rank ``rank``, and save what the tests look at."""
    torch.set_num_threads(1)
    os.environ |= {**meet, "RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2"}
    sys.path.insert(0, STUB)
    apex_module._on_gpu = lambda config: True
    for name, changes in RUNS.items():
        run, recorder = built(run_config(name, folder, max_steps=STEPS, **changes)).run, Recorder()
        run.trainer.callbacks.append(recorder)  # type: ignore[attr-defined]
        run.trainer.fit(run.model, datamodule=run.datamodule)
        recorder.save(run.model, folder / f"{name}{rank}.pt")
    for name, ends in (("whole", (9,)), ("broken", (*CUTS, 9))):
        for end in ends:
            config = run_config(name, folder, max_steps=end, resume_from="auto")
            train(built(config).run, config, config["seed"])
    changes = {"max_steps": 6, "num_workers": 1, "log_every_n_steps": 1000, "ckpt_frequent_step": 1000}
    run, waits = built(run_config("waits", folder, **changes)).run, BatchWaits()
    run.trainer.callbacks.append(waits)  # type: ignore[attr-defined]
    run.trainer.fit(run.model, datamodule=run.datamodule)
    torch.save([dict(each) for each in waits.of_batches], folder / f"waits{rank}.pt")


def run_config(name: str, folder: Path, **changes: Any) -> dict[str, Any]:
    return config_of(folder, output_dir=str(folder / name), world_size=RANKS, train_dataset_size=36, **changes)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("ranks")
    write_data(folder)
    mp.start_processes(work, (folder, address()), nprocs=RANKS, start_method="fork")
    return folder


@pytest.fixture(scope="module")
def results(folder: Path) -> Results:
    return {n: [torch.load(folder / f"{n}{rank}.pt", weights_only=True) for rank in range(RANKS)] for n in RUNS}


def replayed(folder: Path, steps: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """The model behind each rank's own backward pass, which knows the features of the others as numbers alone."""
    features: list[Tensor] = []
    models = []
    for rank in [*range(RANKS), *range(RANKS)]:

        def gathered(own: Tensor, rank: int = rank) -> Tensor:
            if len(features) < RANKS:
                features.append(own.detach())
                return own
            return torch.cat([own if i == rank else features[i] for i in range(RANKS)])

        monkeypatch.setattr(xvlm, "gathered_features", gathered)
        model: Any = BASELINE.model(run_config("native", folder))
        model.load_state_dict(steps[rank]["state"])
        torch.set_rng_state(steps[rank]["random"])
        total_loss(model.train()(steps[rank]["batch"])).backward()
        models.append(model)
    return models[RANKS:]


@pytest.mark.parametrize("name", ["native", "images", "apex"])
def test_the_optimiser_gets_the_mean_of_the_ranks_gradients(
    name: str, folder: Path, results: Results, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of regions and of images; one process would have other gradients."""
    streams = set()
    for i in range(2):
        steps = [result["steps"][i] for result in results[name]]
        streams |= {step["batch"]["stream"] for step in steps}
        own = [gradients_of(model) for model in replayed(folder, steps, monkeypatch)]
        if name == "images":  # where the box head has none
            own = [{key: None if "bbox_head" in key else g for key, g in each.items()} for each in own]
        for step in steps:
            assert difference(step["gradients"], mean_of(own)) < ROUNDING
        assert difference(own[0], own[1]) > 1000 * ROUNDING
    assert streams == {"images"} if name == "images" else {"images", "regions"}


@pytest.mark.parametrize("name", RUNS)
def test_ranks_keep_equal_weights_and_step_over_the_same_streams(name: str, results: Results) -> None:
    first, second = results[name]
    assert all(torch.equal(first["weights"][key], second["weights"][key]) for key in first["weights"])
    for ours, theirs in zip(first["steps"], second["steps"], strict=True):
        assert all(ours["batch"][key] == theirs["batch"][key] for key in ("stream", "iteration"))
        assert not torch.equal(ours["batch"]["image"][0], theirs["batch"]["image"][0])
    assert torch.equal(first["steps"][0]["random"], second["steps"][0]["random"])  # as officially
    assert not first["searches"] and not second["searches"]  # for parameters without a gradient


def test_divided_optimiser_states_give_equal_weights(results: Results) -> None:
    for plain, sharded in zip(results["native"], results["sharded"], strict=True):
        assert all(torch.equal(sharded["weights"][key], value) for key, value in plain["weights"].items())
        assert sharded["state_size"] < 0.8 * plain["state_size"]
    assert sum(result["state_size"] for result in results["sharded"]) == results["native"][0]["state_size"]


def test_two_processes_go_on_to_the_bit(folder: Path, results: Results) -> None:
    ours, theirs = (torch.load(folder / n / "checkpoints/last.ckpt", weights_only=True) for n in ("broken", "whole"))
    assert len(theirs["ranks"]) == len(theirs["PretrainData"]["positions"]) == RANKS
    found, expected = tensors(ours), tensors(theirs)
    assert found.keys() == expected.keys()
    assert [name for name, value in expected.items() if not torch.equal(found[name], value)] == []
    for part in ("lr_schedulers", "loops", "PretrainData"):
        assert str(ours[part]) == str(theirs[part]), part


def test_processes_wait_for_nothing_more_than_one_does(folder: Path, results: Results) -> None:
    for rank in range(RANKS):
        waits = torch.load(folder / f"waits{rank}.pt", weights_only=True)
        assert waits[2:5] == [Counter(_local_scalar_dense=1)] * 3
