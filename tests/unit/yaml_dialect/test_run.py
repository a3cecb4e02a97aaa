"""A whole run of a small script: what it leaves, what it goes on from, and that going on changes nothing."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import lightning as L
import pytest
import torch
from torch import Tensor

from albef.checkpoint_files import best_epoch, better_epochs, every_epoch
from tests.unit.yaml_dialect import small_runs
from tests.unit.yaml_dialect.small_runs import SmallModel, baseline, config_of
from vlp.checkpoint.weights import read_checkpoint, sha256_of_file
from vlp.training.resume import read_run
from vlp.yaml_dialect import run as run_module
from vlp.yaml_dialect.command_line import resolved
from vlp.yaml_dialect.kept_files import Keeps
from vlp.yaml_dialect.run import run
from vlp.yaml_dialect.yaml_file import read_yaml

STEPS = 4  # of an epoch: nine rows in batches of two, the last row left out


@pytest.fixture(autouse=True)
def single_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def models(monkeypatch: pytest.MonkeyPatch) -> list[SmallModel]:
    """Those that a test builds."""
    made: list[SmallModel] = []
    original = SmallModel.__init__

    def noted(self: SmallModel, config: dict[str, Any]) -> None:
        original(self, config)
        made.append(self)

    monkeypatch.setattr(SmallModel, "__init__", noted)
    return made


def trained(folder: Path, *argv: str, keeps: Keeps = every_epoch, **further: Any) -> Path:
    folder.mkdir(exist_ok=True)
    run(
        baseline(keeps, keeps is not every_epoch, names_best=keeps is not every_epoch, **further),
        "Small",
        config_of(folder, *argv),
    )
    return folder / "out"


def log_lines(out: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (out / "log.txt").read_text().splitlines() if line.startswith("{")]


def metrics(out: Path) -> list[dict[str, Any]]:
    """What was logged, but the time that a loader took."""
    lines = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    return [{name: value for name, value in line.items() if name != "data/wait_share"} for line in lines]


def same(first: Any, second: Any) -> bool:
    """Whether two checkpoints hold the same values, bit by bit."""
    if isinstance(first, Tensor):
        return torch.equal(first, second)
    if isinstance(first, dict):
        return first.keys() == second.keys() and all(same(first[key], second[key]) for key in first)
    if isinstance(first, list | tuple):
        return len(first) == len(second) and all(map(same, first, second))
    return first == second


# What it leaves --------------------------------------------------------------------------------------------------


def test_the_files_of_a_run(tmp_path: Path) -> None:
    out = trained(tmp_path)
    names = {path.name for path in out.iterdir()}
    assert {"config.yaml", "config.json", "log.txt", "metrics.jsonl", "results.json", "checkpoints"} < names
    assert {name for name in names if name.endswith(".pth")} == {f"checkpoint_{e:02d}.pth" for e in range(3)}
    assert [path.name for path in (out / "checkpoints").iterdir()] == ["last.ckpt"]
    assert any(name.startswith("events.out.tfevents") for name in names)


def test_the_log_has_the_official_lines(tmp_path: Path) -> None:
    out = trained(tmp_path)
    text = (out / "log.txt").read_text()
    assert text.endswith("}\n") and "best epoch" not in text
    lines = log_lines(out)
    assert [line["epoch"] for line in lines] == [0, 1, 2]
    logged = metrics(out)
    for line in lines:
        assert list(line) == [
            *("train_lr", "train_loss_fit", "train_loss_soft"),
            *("val_acc", "val_rows", "test_acc", "test_rows", "epoch"),
        ]
        steps = [each for each in logged if "train/loss_fit" in each][line["epoch"] * STEPS :][:STEPS]
        assert len(steps) == STEPS
        for meter in ("loss_fit", "loss_soft"):
            mean = sum(step[f"train/{meter}"] for step in steps) / STEPS
            assert isinstance(line[f"train_{meter}"], str)
            assert float(line[f"train_{meter}"]) == pytest.approx(mean, abs=5.1e-4)
        assert isinstance(line["val_acc"], float) and (line["val_rows"], line["test_rows"]) == (5, 6)
    assert lines[0]["train_lr"] == "0.001"  # a first epoch of four steps never leaves the start of the warm-up


@pytest.mark.parametrize(("digits", "as_text"), [(4, True), (3, False)])
def test_digits_and_text_of_the_log(tmp_path: Path, digits: int, as_text: bool) -> None:
    out = trained(tmp_path, "schedular.epochs=1", digits=digits, results_as_text=as_text)
    line = log_lines(out)[0]
    assert len(line["train_loss_fit"].split(".")[1]) == digits
    assert isinstance(line["val_acc"], str) == as_text


def test_the_official_checkpoint(tmp_path: Path) -> None:
    out = trained(tmp_path, "schedular.epochs=2")
    saved = read_checkpoint(out / "checkpoint_01.pth")
    assert list(saved) == ["model", "optimizer", "lr_scheduler", "config", "epoch"] and saved["epoch"] == 1
    model = SmallModel(saved["config"])
    assert list(saved["model"]) == list(model.state_dict())
    assert not any(name.startswith("train_") for name in saved["model"])
    without, decayed = saved["optimizer"]["param_groups"]
    assert (without["weight_decay"], decayed["weight_decay"]) == (0.0, 0.02)
    assert without["initial_lr"] == decayed["initial_lr"] == 1e-2 and without["betas"] == (0.9, 0.999)
    own = [(name, p) for name, p in model.named_parameters() if p.requires_grad]
    of_groups = [
        saved["optimizer"]["state"][i]["exp_avg"].shape for group in (without, decayed) for i in group["params"]
    ]
    expected = [p.shape for name, p in own if p.dim() == 1] + [p.shape for name, p in own if p.dim() != 1]
    assert of_groups == expected  # temp, without a dimension, is decayed; the momentum copy is in neither
    assert saved["lr_scheduler"]["t_initial"] == 2 and saved["lr_scheduler"]["warmup_t"] == 1
    assert saved["lr_scheduler"]["warmup_steps"] == [pytest.approx(9e-3)] * 2


def test_config_yaml_is_read_again(tmp_path: Path) -> None:
    out = trained(tmp_path, "--seed", "7", "max_steps=2", "bert_config.fusion_layer=5")
    written = read_yaml(out / "config.yaml")
    assert written["max_steps"] == 2 and "seed" not in written and "output_dir" not in written
    again = resolved(small_runs.COMMAND, ["--config", str(out / "config.yaml"), "--seed", "7"])
    first = json.loads((out / "config.json").read_text())["config"]
    different = {key for key in first if first[key] != again[key]}
    assert different == {"output_dir"}


def test_a_selected_metric_decides_what_is_kept(tmp_path: Path) -> None:
    out = trained(tmp_path / "best", keeps=best_epoch)
    accuracies = [line["val_acc"] for line in log_lines(out)]
    best = accuracies.index(max(accuracies))
    assert (out / "log.txt").read_text().endswith(f"\nbest epoch: {best}")
    assert [path.name for path in out.glob("*.pth")] == ["checkpoint_best.pth"]
    assert read_checkpoint(out / "checkpoint_best.pth")["epoch"] == best
    out = trained(tmp_path / "better", keeps=better_epochs)
    improved = [e for e in range(3) if accuracies[e] > max(accuracies[:e], default=-1e9)]
    assert sorted(path.name for path in out.glob("*.pth")) == [f"checkpoint_{e:02d}.pth" for e in improved]


def test_results_name_what_was_measured(tmp_path: Path) -> None:
    out = trained(tmp_path, keeps=best_epoch)
    results = json.loads((out / "results.json").read_text())
    epoch = results["epoch"]
    line = log_lines(out)[epoch]
    assert results["metrics"] == {name: line[name] for name in ("val_acc", "val_rows", "test_acc", "test_rows")}
    assert results["checkpoint"] == str(out / "checkpoint_best.pth")
    assert results["checkpoint_sha256"] == sha256_of_file(out / "checkpoint_best.pth")
    assert results["splits"] == ["val", "test"] and results["items"] == {"val": 5, "test": 6}
    assert (results["baseline"], results["task"], results["config"]["seed"]) == ("small", "small", 42)


def test_results_are_those_of_the_best_epoch_when_later_ones_are_worse(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(SmallModel, "evaluation_results", lambda self, split: {"acc": 1 / (1 + self.current_epoch)})
    out = trained(tmp_path, keeps=best_epoch)
    assert [line["val_acc"] for line in log_lines(out)] == [1, 1 / 2, 1 / 3]
    results = json.loads((out / "results.json").read_text())
    assert results["epoch"] == 0 and results["metrics"] == {"val_acc": 1, "test_acc": 1}


def test_scoring_a_checkpoint(tmp_path: Path) -> None:
    out = trained(tmp_path, "schedular.epochs=2", keeps=every_epoch)
    before = (out / "config.json").read_bytes(), (out / "log.txt").read_text()
    trained(tmp_path, "--evaluate", "--checkpoint", str(out / "checkpoint_01.pth"), "schedular.epochs=2")
    assert (out / "config.json").read_bytes() == before[0] and (out / "config_evaluate.json").is_file()
    text = (out / "log.txt").read_text()
    assert text.startswith(before[1])
    line = json.loads(text[len(before[1]) :])
    last = json.loads(before[1].splitlines()[-1])
    assert line == {**{name: value for name, value in last.items() if not name.startswith("train_")}, "epoch": 0}
    results = json.loads((out / "results.json").read_text())
    assert results["checkpoint_sha256"] == sha256_of_file(out / "checkpoint_01.pth") and "epoch" not in results


def test_splits_are_scored_one_after_the_other(tmp_path: Path, models: list[SmallModel]) -> None:
    trained(tmp_path, "schedular.epochs=2")
    assert models[0].calls == ["start val", "results val", "start test", "results test"] * 2
    assert models[0].alphas == pytest.approx([0.0, 0.1, 0.2, 0.3, *[0.4] * 4])


def test_without_warm_up_alpha_is_there_from_the_start(tmp_path: Path, models: list[SmallModel]) -> None:
    trained(tmp_path, "schedular.epochs=1", "warm_up=False", "alpha=0.3")
    assert models[0].alphas == [0.3] * STEPS


# Going on --------------------------------------------------------------------------------------------------------


class Stop(Exception):
    pass


class StopAt(L.Callback):
    """Ends the run at the start of a step, after what is saved there."""

    def __init__(self, step: int) -> None:
        self.step = step

    def on_train_batch_start(self, trainer: L.Trainer, *_: Any) -> None:
        if trainer.global_step == self.step:
            raise Stop

    def on_before_zero_grad(self, trainer: L.Trainer, *_: Any) -> None:
        """Nothing is done of the step."""


@pytest.mark.parametrize("stop", range(2, 3 * STEPS))
def test_a_run_that_was_broken_at_any_step_goes_on_to_the_bit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stop: int
) -> None:
    whole = trained(tmp_path / "whole", "save_every_n_steps=1", keeps=better_epochs)
    build: Any = run_module.build_trainer

    def broken(*args: Any, **kwargs: Any) -> L.Trainer:
        trainer: Any = build(*args, **kwargs)
        trainer.callbacks.append(StopAt(stop))
        return trainer

    with monkeypatch.context() as patch:
        patch.setattr(run_module, "build_trainer", broken)
        with pytest.raises(Stop):
            trained(tmp_path / "cut", "save_every_n_steps=1", keeps=better_epochs)
    cut = tmp_path / "cut/out"
    assert read_run(cut / "checkpoints/last.ckpt")["global_step"] == stop
    trained(tmp_path / "cut", "save_every_n_steps=1", "resume_from=auto", keeps=better_epochs)
    first, second = (read_checkpoint(out / "checkpoints/last.ckpt") for out in (whole, cut))
    for part in ("state_dict", "optimizer_states", "lr_schedulers", "ranks", "global_step", "epoch", "SmallData"):
        assert same(first[part], second[part]), part
    assert (whole / "log.txt").read_text() == (cut / "log.txt").read_text()
    assert metrics(whole) == metrics(cut)
    kept = sorted(path.name for path in whole.glob("*.pth"))
    assert kept == sorted(path.name for path in cut.glob("*.pth"))
    for name in kept:
        ours, theirs = read_checkpoint(whole / name), read_checkpoint(cut / name)
        assert same(*({k: v for k, v in each.items() if k != "config"} for each in (ours, theirs)))


def test_a_complete_run_that_is_started_again_says_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    trained(tmp_path, "schedular.epochs=1")
    with pytest.raises(SystemExit) as ended:
        trained(tmp_path, "schedular.epochs=1", "resume_from=auto")
    assert ended.value.code == 0
    assert capsys.readouterr().out.splitlines()[-1].endswith("last.ckpt: this run is complete, schedular.epochs=1")


def test_a_complete_run_without_results_says_how_to_score_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (trained(tmp_path, "schedular.epochs=1") / "results.json").unlink()
    with pytest.raises(SystemExit) as ended:
        trained(tmp_path, "schedular.epochs=1", "resume_from=auto")
    assert ended.value.code == 0
    assert (
        capsys.readouterr()
        .out.splitlines()[-1]
        .endswith("no results.json: score its checkpoint by --evaluate --checkpoint FILE")
    )


def test_an_evaluation_without_the_metric_that_selects_ends_in_a_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(SmallModel, "evaluation_results", lambda self, split: {})
    with pytest.raises(SystemExit, match="error: the evaluation of val has no acc, which picks the best epoch"):
        trained(tmp_path, keeps=best_epoch)


@pytest.mark.parametrize("steps", [2, STEPS], ids=["within an epoch", "at its end"])
def test_a_run_that_max_steps_ends_leaves_the_checkpoint_of_its_last_epoch(tmp_path: Path, steps: int) -> None:
    out = trained(tmp_path, f"max_steps={steps}")
    content, last = read_checkpoint(out / "checkpoint_02.pth"), read_run(out / "checkpoints/last.ckpt")
    assert content["epoch"] == 2 and last["global_step"] == steps
    assert same(content["model"], last["state_dict"])
    assert json.loads((out / "results.json").read_text())["checkpoint"].endswith("checkpoint_02.pth")
    assert (out / "checkpoint_00.pth").exists() == (steps == STEPS)


def test_max_steps_cuts_a_run_and_may_grow(tmp_path: Path) -> None:
    out = trained(tmp_path / "cut", "max_steps=6")
    assert [line["epoch"] for line in log_lines(out)] == [0]
    assert read_run(out / "checkpoints/last.ckpt")["global_step"] == 6
    with pytest.raises(SystemExit) as ended:
        trained(tmp_path / "cut", "max_steps=6", "resume_from=auto")
    assert ended.value.code == 0
    out = trained(tmp_path / "cut", "resume_from=auto")
    whole = trained(tmp_path / "whole")
    first, second = (read_checkpoint(each / "checkpoint_02.pth") for each in (whole, out))
    assert same(first["model"], second["model"]) and same(first["optimizer"], second["optimizer"])
    assert (whole / "log.txt").read_text() == (out / "log.txt").read_text() and metrics(whole) == metrics(out)


@pytest.mark.parametrize(
    ("argv", "said"),
    [
        ([], r"output_dir=\S+: holds the run of \S+last.ckpt: go on with it by resume_from=auto"),
        (["resume_from=auto", "schedular.epochs=4"], r"schedular.epochs was 1, is 4"),
        (["resume_from=auto", "batch_size=3"], r"a run keeps its batch_size"),
        (["resume_from=auto", "--seed", "3"], r"a run keeps its seed.*--checkpoint="),
        (["resume_from=auto", "alpha=0.2"], r"go on with the new ones: resume_anyway=alpha"),
    ],
)
def test_another_run_in_the_same_folder_is_refused(tmp_path: Path, argv: list[str], said: str) -> None:
    out = trained(tmp_path, "schedular.epochs=1")
    before = {path: path.read_bytes() for path in out.rglob("*") if path.is_file() and "tfevents" not in path.name}
    with pytest.raises(SystemExit, match=said):
        trained(tmp_path, *(argv if any("epochs" in each for each in argv) else ["schedular.epochs=1", *argv]))
    assert all(path.read_bytes() == content for path, content in before.items())


# After an official checkpoint --------------------------------------------------------------------------------------


def test_the_official_resume_takes_weights_optimiser_and_the_next_epoch(tmp_path: Path) -> None:
    whole = trained(tmp_path / "whole")
    path = whole / "checkpoint_00.pth"
    out = trained(tmp_path / "resumed", "--resume", "--checkpoint", str(path))
    assert [line["epoch"] for line in log_lines(out)] == [1, 2]
    assert sorted(each.name for each in out.glob("*.pth")) == ["checkpoint_01.pth", "checkpoint_02.pth"]
    steps, logged = ([line for line in metrics(each) if "train/loss_fit" in line] for each in (out, whole))
    assert len(steps) == 2 * STEPS and [line["step"] for line in steps] == [line["step"] for line in logged[STEPS:]]
    rates = [[line["lr/pg1"] for line in metrics(each) if "lr/pg1" in line] for each in (out, whole)]
    assert rates[0] == rates[1][-len(rates[0]) :] and len(rates[0]) == 2 * STEPS
    # Dropout differs, so that the first step's rows and rate are the same, not its loss.
    saved = read_checkpoint(out / "checkpoint_01.pth")
    states = saved["optimizer"]["state"].values()
    assert {float(state["step"]) for state in states} == {2 * STEPS}
    assert (
        read_checkpoint(whole / "checkpoint_01.pth")["optimizer"]["param_groups"] == saved["optimizer"]["param_groups"]
    )


def test_the_official_resume_without_chance_is_the_unbroken_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    original = SmallModel.__init__

    def still(self: SmallModel, config: dict[str, Any]) -> None:
        original(self, config)
        self.dropout.p = 0.0

    monkeypatch.setattr(SmallModel, "__init__", still)
    whole = trained(tmp_path / "whole")
    out = trained(tmp_path / "resumed", "--resume", "True", "--checkpoint", str(whole / "checkpoint_00.pth"))
    first, second = (read_checkpoint(each / "checkpoint_02.pth") for each in (whole, out))
    assert same(first["model"], second["model"]) and same(first["optimizer"], second["optimizer"])
    assert log_lines(whole)[1:] == log_lines(out)


def test_checkpoints_that_do_not_serve(tmp_path: Path) -> None:
    out = trained(tmp_path, "schedular.epochs=1")
    bare = tmp_path / "bare.pth"
    torch.save(read_checkpoint(out / "checkpoint_00.pth")["model"], bare)
    with pytest.raises(SystemExit, match="lacks model, optimizer, epoch: --resume needs"):
        trained(tmp_path / "a", "--resume", "--checkpoint", str(bare))
    saved = read_checkpoint(out / "checkpoint_00.pth")
    saved["optimizer"]["state"][0]["exp_avg"].flatten()[0] = torch.nan
    torch.save(saved, bare)
    with pytest.raises(SystemExit, match=r"bare\.pth: NaN or infinite values in optimizer\.state\.0\.exp_avg; "):
        trained(tmp_path / "n", "--resume", "--checkpoint", str(bare))
    saved = read_checkpoint(out / "checkpoint_00.pth")
    del saved["model"]["temp"]
    torch.save(saved, bare)
    with pytest.raises(SystemExit, match="is of another model: it lacks temp"):
        trained(tmp_path / "b", "--resume", "--checkpoint", str(bare))
    with pytest.raises(SystemExit) as ended:
        trained(tmp_path / "c", "--resume", "--checkpoint", str(out / "checkpoint_00.pth"), "schedular.epochs=1")
    assert ended.value.code == 0
