"""What the engine does in real runs of X-VLM's pre-training: schedule, means, official files, clipping, bad numbers."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NamedTuple

import lightning as L
import pytest
import torch
from lightning.pytorch.callbacks import Callback
from torch import Tensor

from tests.unit.xvlm import task_runs
from tests.unit.xvlm.small_runs import BASELINE, ITERATIONS, STEPS, WITH_REGIONS, built, config_of, trained, write_data
from vlp.checkpoint.weights import read_checkpoint
from vlp.training.optim import AdamW
from vlp.training.run import train
from vlp.yaml_dialect.kept_files import EpochEnd
from vlp.yaml_dialect.run import finish
from xvlm import checkpoint_files

SHARED = ("loss_itc", "loss_itm", "loss_mlm")
BOXES = ("loss_bbox", "loss_giou")
EPOCHS, LIMIT = 3, 0.5


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("run")
    write_data(folder)
    return folder


class Recorder(Callback):
    """Of each step its batch's stream and iteration, the rates, the losses, the norm of the gradients, the weights."""

    def __init__(self) -> None:
        self.steps: list[dict[str, Any]] = []

    def on_before_optimizer_step(self, trainer: L.Trainer, pl_module: Any, optimizer: Any) -> None:
        rates = [group["lr"] for group in optimizer.param_groups]
        self.steps.append({"rates": rates, "unclipped": norm(pl_module), "losses": dict(pl_module.step_losses)})

    def on_train_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: dict[str, Any], batch_idx: int
    ) -> None:
        state = {name: value.clone() for name, value in pl_module.state_dict().items()}
        place = {name: batch[name] for name in ("stream", "iteration")}
        self.steps[-1] |= {**place, "clipped": norm(pl_module), "state": state}


class Run(NamedTuple):
    """What a run has left."""

    output: Path
    config: dict[str, Any]
    steps: list[dict[str, Any]]
    optimizer: torch.optim.Optimizer


def norm(module: L.LightningModule) -> float:
    return float(torch.nn.utils.get_total_norm([p.grad for p in module.parameters() if p.grad is not None]))


def log_lines(output: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (output / "log.txt").read_text(encoding="utf-8").splitlines()]


def official_rate(t: int, warmup: int, total: int) -> float:
    return t / max(1, warmup) if t < warmup else max(0.0, (total - t) / max(1, total - warmup))


@pytest.fixture(scope="module")
def run(folder: Path) -> Run:
    """Three epochs."""
    changes: dict[str, Any] = {
        "schedular": {"epochs": EPOCHS},
        "ckpt_frequent": 2,
        "accelerator": {"CLIP_GRAD_NORM": LIMIT},
    }
    config = config_of(folder, output_dir=str(folder / "whole"), **changes)
    made, recorder = built(config), Recorder()
    made.run.trainer.callbacks.append(recorder)  # type: ignore[attr-defined]
    train(made.run, config, config["seed"])
    finish(BASELINE, made, config)
    return Run(folder / "whole", config, recorder.steps, made.run.trainer.optimizers[0])


@pytest.fixture(scope="module")
def without_regions(folder: Path) -> Run:
    """One epoch; nothing is clipped."""
    changes: dict[str, Any] = {
        "schedular": {"epochs": 1},
        "train_file_regions": [],
        "accelerator": {"CLIP_GRAD_NORM": 0.0},
    }
    config = config_of(folder, output_dir=str(folder / "images"), **changes)
    made, recorder = built(config), Recorder()
    made.run.trainer.callbacks.append(recorder)  # type: ignore[attr-defined]
    train(made.run, config, config["seed"])
    return Run(folder / "images", config, recorder.steps, made.run.trainer.optimizers[0])


# Optimisation ----------------------------------------------------------------------------------------------------


def test_rates_are_those_of_the_iteration_of_both_streams(run: Run) -> None:
    assert [each["iteration"] for each in run.steps if each["stream"] == "images"] == list(range(EPOCHS * ITERATIONS))
    assert sum(each["stream"] == "regions" for each in run.steps) == EPOCHS * WITH_REGIONS
    for each in run.steps:
        rate = 1e-4 * official_rate(each["iteration"], 4, EPOCHS * ITERATIONS)
        assert each["rates"] == pytest.approx([rate, rate, 2 * rate, 2 * rate])


@pytest.mark.parametrize(("given", "warmup"), [(0, 0), (5, 5), (0.25, 6), (1.0, 24), (50, 50)])
def test_a_warm_up_is_a_number_of_iterations_or_a_share_of_all(given: float, warmup: int, folder: Path) -> None:
    config = config_of(folder, schedular={"epochs": 4, "num_warmup_steps": given})
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1e-4)
    schedule = BASELINE.model(config).schedule(optimizer, steps=ITERATIONS)
    for t in range(4 * ITERATIONS + 2):
        assert optimizer.param_groups[0]["lr"] == pytest.approx(1e-4 * official_rate(t, warmup, 4 * ITERATIONS))
        optimizer.step()
        schedule.step()


def test_the_optimiser_is_the_official_one(run: Run) -> None:
    assert type(run.optimizer) is AdamW
    assert [group["betas"] for group in run.optimizer.param_groups] == [(0.9, 0.98)] * 4
    assert [group["weight_decay"] for group in run.optimizer.param_groups] == [0.01, 0.0, 0.01, 0.0]


def test_gradients_are_clipped_to_the_norm(run: Run, without_regions: Run) -> None:
    for each in run.steps:
        assert each["unclipped"] > LIMIT and each["clipped"] == pytest.approx(LIMIT, rel=1e-4)
    for each in without_regions.steps:
        assert each["unclipped"] > LIMIT and each["clipped"] == each["unclipped"]


# log.txt ---------------------------------------------------------------------------------------------------------


def official_means(steps: list[dict[str, Any]], iterations: int) -> dict[str, float]:
    """The official meters after ``iterations``, which are never reset."""
    done = [each for each in steps if each["iteration"] < iterations]
    images = [each for each in done if each["stream"] == "images"]
    regions = {each["iteration"]: each for each in done if each["stream"] == "regions"}
    means = {name: [float(each["losses"][key(name)]) for each in images] for name in SHARED}
    for name in BOXES:
        fed = (regions.get(each["iteration"]) for each in images)
        means[name] = [0.5 if each is None else float(each["losses"][key(name)]) for each in fed]
    rates = [1e-4 * official_rate(i + 1, 4, EPOCHS * ITERATIONS) for i in range(iterations)]
    means |= {"lr": rates, "lr_large": [2 * rate for rate in rates]}
    return {f"train_{name}": sum(values) / iterations for name, values in means.items()}


def key(meter: str) -> str:
    return f"{meter.removeprefix('loss_')}_loss"


def test_the_log_has_the_official_running_means(run: Run) -> None:
    lines = log_lines(run.output)
    assert [line["epoch"] for line in lines] == [*range(EPOCHS)]
    for epoch, line in enumerate(lines):
        names = [f"train_{name}" for name in (*SHARED, *BOXES, "lr", "lr_large")]
        assert list(line) == [*names, "epoch"]
        expected = official_means(run.steps, (epoch + 1) * ITERATIONS)
        for name in names:
            assert isinstance(line[name], str) and len(line[name].split(".")[1]) == 5
            assert float(line[name]) == pytest.approx(expected[name], abs=5.1e-6), name


def test_without_regions_the_boxes_count_their_constant(without_regions: Run) -> None:
    assert len(without_regions.steps) == ITERATIONS
    assert {line[f"train_{name}"] for line in log_lines(without_regions.output) for name in BOXES} == {"0.50000"}


def test_a_line_of_metrics_holds_its_own_step_alone(run: Run) -> None:
    lines = [json.loads(line) for line in (run.output / "metrics.jsonl").read_text().splitlines()]
    lines = [line for line in lines if any(name.endswith("loss_itc") for name in line)]
    assert len(lines) == len(run.steps) == EPOCHS * STEPS
    for line, step in zip(lines, run.steps, strict=True):
        tag = "train/regions/" if step["stream"] == "regions" else "train/"
        meters = (*SHARED, *BOXES) if step["stream"] == "regions" else SHARED
        found = {name: value for name, value in line.items() if "loss_" in name}
        assert found == {f"{tag}{name}": pytest.approx(float(step["losses"][key(name)])) for name in meters}


@pytest.mark.parametrize(("script", "since_start"), [("Grounding_bbox", False), ("Grounding_bbox_pretrain", True)])
def test_means_of_scripts_with_one_stream(script: str, since_start: bool, tmp_path: Path) -> None:
    """Officially those of fine-tuning are an epoch's."""
    task_runs.write_data(tmp_path)
    task_runs.trained(script, task_runs.config_of(script, tmp_path))
    logged = [json.loads(line) for line in (tmp_path / "run/metrics.jsonl").read_text().splitlines()]
    lines = [json.loads(line) for line in (tmp_path / "run/log.txt").read_text().splitlines() if line.startswith("{")]
    rates = ("train_lr", "train_lr_large") if since_start else ("train_lr",)
    for epoch, line in enumerate(lines):
        names = [f"train_{name}" for name in BOXES]
        expected = [*names, *rates] if since_start else [*rates, *names]
        assert [name for name in line if name.startswith("train_")] == expected
        for name in BOXES:
            values = [each[f"train/{name}"] for each in logged if f"train/{name}" in each and "lr/pg1" not in each]
            counted = values[0 if since_start else 5 * epoch : 5 * (epoch + 1)]
            assert len(values) == 10
            assert float(line[f"train_{name}"]) == pytest.approx(sum(counted) / len(counted), abs=5.1e-6)
    assert len(lines) == 2


# Official files --------------------------------------------------------------------------------------------------


def same(first: dict[str, Tensor], second: dict[str, Tensor]) -> bool:
    return list(first) == list(second) and all(torch.equal(first[name], second[name]) for name in first)


def test_checkpoints_of_steps_and_epochs(run: Run) -> None:
    after = {each["iteration"]: each["state"] for each in run.steps if each["stream"] == "images"}
    files = {f"model_state_step_{i}.th": i for i in (4, 9, 14)}
    files |= {f"model_state_epoch_{e}.th": (e + 1) * ITERATIONS - 1 for e in (1, 2)}
    assert {path.name for path in run.output.glob("*.th")} == {*files, "training_state_latest.th"}
    for name, iteration in files.items():
        saved = read_checkpoint(run.output / name)
        assert list(saved) == ["model", "config"] and saved["config"] == run.config
        assert same(saved["model"], after[iteration])
    state = read_checkpoint(run.output / "training_state_latest.th")
    assert list(state) == ["optimizer", "epoch"] and state["epoch"] == EPOCHS - 1
    assert len(state["optimizer"]["param_groups"]) == 4


def test_results_name_the_last_epochs_checkpoint(run: Run) -> None:
    results = json.loads((run.output / "results.json").read_text())
    assert results["checkpoint"] == str(run.output / "model_state_epoch_2.th") and results["epoch"] == EPOCHS - 1


def names_of(keeps: Callable[[EpochEnd], dict[str, Any]], better: list[bool]) -> list[list[str]]:
    """The files of each epoch of a run."""
    found = []
    for epoch, each in enumerate(better):
        strategy = SimpleNamespace(optimizer_state=lambda _: {})
        trainer: Any = SimpleNamespace(
            current_epoch=epoch, max_epochs=len(better), strategy=strategy, optimizers=[None]
        )
        found.append([*keeps(EpochEnd(trainer, torch.nn.Linear(1, 1), {"ckpt_frequent": 2}, each))])
    return found


def test_files_of_the_other_scripts() -> None:
    state = checkpoint_files.STATE
    assert names_of(checkpoint_files.every_epoch, [True] * 2) == [
        [f"model_state_epoch_{e}.th", state] for e in range(2)
    ]
    assert names_of(checkpoint_files.domain_stage, [True] * 3) == [[], [], ["model_state_epoch_latest.th"]]
    best = "checkpoint_best.pth"
    assert names_of(checkpoint_files.best_epoch, [True, False, True]) == [[best], [], [best]]
    assert names_of(checkpoint_files.best_or_last, [True, False]) == [[best], ["checkpoint_1.pth"]]
    assert names_of(checkpoint_files.best_or_last, [True, True]) == [[best], [best]]


# What is wrong ---------------------------------------------------------------------------------------------------


class Spoil(Callback):
    """An image of the first batch of a stream is not a number."""

    def __init__(self, stream: str) -> None:
        self.stream = stream
        self.batch: dict[str, Any] = {}

    def on_train_batch_start(self, trainer: L.Trainer, pl_module: Any, batch: Any, batch_idx: int) -> None:
        if batch["stream"] == self.stream and not self.batch:
            batch["image"][:] = torch.nan
            self.batch = batch


@pytest.mark.parametrize("stream", ["images", "regions"])
def test_what_is_no_number_stops_the_run_by_its_rows(stream: str, folder: Path, tmp_path: Path) -> None:
    config = config_of(folder, output_dir=str(tmp_path))
    made, spoil = built(config), Spoil(stream)
    made.run.trainer.callbacks.append(spoil)  # type: ignore[attr-defined]
    with pytest.raises(SystemExit) as stopped:
        train(made.run, config, config["seed"])
    said = str(stopped.value.code)
    assert said.startswith("error: a loss that is not finite in step ")
    for name, row in zip(spoil.batch["dataset"], spoil.batch["index"], strict=True):
        assert f"dataset {name}, index {row}" in said
    assert not [*tmp_path.rglob("*.ckpt"), *tmp_path.rglob("*.th")]


def test_rows_that_cannot_be_read_are_counted(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_data(tmp_path)
    for number in (13, 17):
        (tmp_path / f"{number}.png").write_bytes(b"no image")
    trained(config_of(tmp_path))
    (line,) = (line for line in capsys.readouterr().out.splitlines() if line.startswith("skipped "))
    assert "images: first" in line and "images: second" in line
