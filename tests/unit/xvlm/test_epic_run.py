"""EPIC in real runs of X-VLM over both streams: logs, checkpoints, what a host waits for, exact resume."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.unit.training.test_host_waits import BatchWaits
from tests.unit.xvlm.small_runs import STEPS, built, config_of, saved_teacher, write_data
from tests.unit.yaml_runs import metrics_of
from vlp.checkpoint.weights import read_checkpoint
from vlp.training.run import train
from vlp.yaml_dialect.run import finish
from xvlm.baseline import BASELINE

KINDS: dict[str, dict[str, Any]] = {
    "epic": {},
    "on_regions": {"on_regions": True},
    "vlm_sas": {"replacement": "vlm", "sas_refresh_steps": 2},
    "lm_cond": {"image_conditioned": True, "on_regions": True},
    "momentum": {"teacher": "momentum", "teacher_decay": 0.5},
    "surprise": {"masking": "surprise", "on_regions": True},
    "frequency": {"masking": "frequency"},
}
RARELY = ("momentum", "frequency")  # whose parts others run, too
EVERY = pytest.mark.parametrize(
    "epic",
    [pytest.param(KINDS[name], id=name, marks=[pytest.mark.slow] if name in RARELY else []) for name in KINDS],
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("run")
    write_data(folder)
    saved_teacher(folder)
    return folder


def run_of(folder: Path, epic: dict[str, Any], **changes: Any) -> dict[str, Any]:
    return config_of(folder, epic, teacher_path=saved_teacher(folder), **changes)


@EVERY
def test_a_step_of_either_stream_waits_for_its_guard_alone(epic: dict[str, Any], folder: Path, tmp_path: Path) -> None:
    steps = 8
    keys: dict[str, Any] = {"num_workers": 1, "max_steps": steps, "log_every_n_steps": 1000, "ckpt_frequent_step": 1000}
    run, waits = built(run_of(folder, epic, output_dir=str(tmp_path), **keys)).run, BatchWaits()
    run.trainer.callbacks.append(waits)  # type: ignore[attr-defined]
    run.trainer.fit(run.model, datamodule=run.datamodule)
    turns = run.datamodule.train_dataloader().turns(0)
    started = 1 + max(next(i for i, turn in enumerate(turns) if turn.stream == each) for each in ("images", "regions"))
    # Each stream's loader draws a seed, on the host; a line of progress reads the loss of the last step.
    counted = slice(started, steps - 1)
    assert {turn.stream for turn in turns[counted]} == {"images", "regions"}
    assert waits.of_batches[counted] == [Counter(_local_scalar_dense=1)] * (steps - 1 - started)


@pytest.mark.parametrize(
    "epic",
    [
        *(pytest.param(KINDS[name], id=name) for name in ("on_regions", "vlm_sas")),
        *(pytest.param(KINDS[name], id=name, marks=pytest.mark.slow) for name in ("momentum", "surprise", "frequency")),
    ],
)
def test_a_broken_run_goes_on_exactly_and_leaves_the_vanilla_model(
    epic: dict[str, Any], folder: Path, tmp_path: Path
) -> None:
    """Weights, draws, snapshot, average and running metrics; also between an iteration's regions and its images."""
    end, states = STEPS + 3, []
    for name, stops in (("whole", [end]), ("broken", [4, 5, end])):
        for stop in stops:
            keys: dict[str, Any] = {"output_dir": str(tmp_path / name), "max_steps": stop, "log_every_n_steps": 3}
            config = run_of(folder, epic, resume_from="auto", **keys)
            made = built(config)
            train(made.run, config, config["seed"])
            finish(BASELINE, made, config)
        states.append(made.run.model.state_dict())
    whole, broken = states
    assert whole.keys() == broken.keys() and any(name.startswith("epic.head") for name in whole)
    assert [name for name in whole if not torch.equal(whole[name], broken[name])] == []
    logged = metrics_of(tmp_path / "whole")
    assert logged == metrics_of(tmp_path / "broken")
    names = {name for _, name in logged}
    assert {"train/loss_itc", "epic/train/epic_itc"} <= names
    assert ("epic/train/epic_gen" in names) == (epic.get("replacement") != "vlm")
    file = read_checkpoint(max((tmp_path / "whole").glob("model_state_epoch_*.th")))
    vanilla = BASELINE.model(config_of(folder)).state_dict()
    assert file["model"].keys() == vanilla.keys()
    assert file["added_model"].keys() == whole.keys() - vanilla.keys()
