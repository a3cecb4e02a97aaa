"""The miniature end to end, of a few steps: calibrate, runs by the official launchers, and the report."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from reproduce.experiments import REPOSITORY
from reproduce.miniature.planning import wanted_runs
from reproduce.miniature.results import CALIBRATION, Run, read_run, read_runs
from reproduce.miniature.settings import read_settings
from vlp.yaml_dialect.yaml_file import write_yaml

pytestmark = pytest.mark.slow
STEPS = 6
SMALL: dict[str, Any] = {
    **{"image_size": 48, "batch": 16, "steps": STEPS, "teacher_steps": 6, "rate": 1e-3, "width": 128},
    **{"small": [], "pretraining": [], "scoring": [], "tried": [{}]},
    "fine_tuning": {"epochs": 1, "rate": 5e-4, "items": []},
}
SETTINGS: dict[str, Any] = {
    **{"seeds": [1, 2], "teacher_seed": 100, "calibration_seed": 200, "points": 2, "threads": 1},
    "scenes": {"level": "pair", "images": 64, "tested": 24, "task_images": 32, "seed": 0},
    "language_model": {"grammar_seed": 7, "lines": 400, "steps": 5, "fitted_steps": 3},
    "baselines": {"meter": SMALL, "albef": {**SMALL, "scoring": ["k_test=16"]}},
}


def miniature(
    folder: Path, *words: str, work: str = "work", results: str = "results"
) -> subprocess.CompletedProcess[str]:
    """The command with the settings of ``folder``."""
    places = ["--settings", folder / "mini.yaml", "--work", folder / work, "--results", folder / results]
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "reproduce", "miniature", *words, *map(str, places)]
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """With the settings, and a calibration whose recalls were set to what a real one needs."""
    made = tmp_path_factory.mktemp("miniature")
    write_yaml(made / "mini.yaml", SETTINGS)
    refused = miniature(made, "run", "C9")
    assert refused.returncode == 1
    assert "meter is not calibrated" in refused.stderr
    ended = miniature(made, "calibrate")
    assert ended.returncode == 1, ended.stdout + ended.stderr  # six steps teach nothing
    path = made / "results" / CALIBRATION
    calibration = json.loads(path.read_text())
    assert {each["baseline"] for each in calibration["tried"]} == {"meter", "albef"}
    assert not (made / "results" / "runs").exists()
    again = miniature(made, "run", "C9")
    assert again.returncode == 1
    assert "10 to 40 %" in again.stderr
    for each in calibration["tried"]:
        each["tr_r1"] = each["ir_r1"] = 20.0
    path.write_text(json.dumps(calibration))
    return made


def check(run: Run) -> None:
    """Everything that a run is to leave."""
    assert [point["step"] for point in run.points] == [run.steps // 2, run.steps]
    for point in run.points:
        assert 0 <= point["tr_r1"] <= point["tr_r5"] <= point["tr_r10"] <= 100
        assert 0 <= point["ir_r1"] <= point["ir_r5"] <= point["ir_r10"] <= 100
    assert run.fine_tuned is not None
    assert 0 <= run.fine_tuned["accuracy"] <= 100
    assert all(len(points) <= 50 for points in run.curves.values())
    assert {*run.seconds} == {"pretraining", "evaluation", "fine_tuning"}
    assert min(run.seconds.values()) > 0
    assert run.flops_per_step > 0


def test_runs_by_the_official_launchers(folder: Path) -> None:
    ended = miniature(folder, "run", "C9", "--seeds", "1")
    assert ended.returncode == 0, ended.stdout[-3000:] + ended.stderr[-3000:]
    runs = {run.name: run for run in read_runs(folder / "results")}
    assert {*runs} == {f"{name}_{variant}_seed1" for name in ("meter", "albef") for variant in ("vanilla", "epic")}
    for run in runs.values():
        check(run)
    for name in ("meter", "albef"):
        vanilla, epic = (runs[f"{name}_{variant}_seed1"] for variant in ("vanilla", "epic"))
        assert epic.flops_per_step > vanilla.flops_per_step
        assert vanilla.false_negatives is vanilla.salient_mass is vanilla.foils is None
        assert epic.false_negatives is not None
        assert [each["step"] for each in epic.false_negatives] == [point["step"] for point in epic.points]
        assert epic.salient_mass is not None
        assert 0 < epic.salient_mass < 1
        assert epic.foils is not None
        assert 0 < epic.foils["itc"]["auroc"] < 1
        assert 0 <= epic.foils["itm"]["accuracy"] <= 100
        assert any(tag.endswith("epic_replaced_share") for tag in epic.curves)
        assert read_run(folder / "results" / "teachers" / f"{name}_teacher_seed100.json").steps == 6
    left = [*(folder / "work").rglob("*.ckpt"), *(folder / "work").rglob("*.pth")]
    assert {path.parent.name for path in left} == {"teachers"}
    again = miniature(folder, "run", "C9", "--seeds", "1")
    assert again.stdout.count("there already") == 4


def test_what_else_is_compared_on_the_ablated_baseline(folder: Path) -> None:
    claims = ["C6", "C7", "C8", "compute", "momentum", "surprise", "frequency"]
    ended = miniature(folder, "run", *claims, "--seeds", "2", "--baselines", "meter")
    assert ended.returncode == 0, ended.stdout[-3000:] + ended.stderr[-3000:]
    runs = {run.variant: run for run in read_runs(folder / "results") if run.seed == 2}
    wanted = wanted_runs(read_settings(folder / "mini.yaml"), claims)
    assert {*runs} == {variant for baseline, variant in wanted if baseline == "meter"}
    for run in runs.values():
        check(run)
    assert runs["vanilla_compute"].steps > STEPS


def test_the_same_seed_gives_the_same_numbers(folder: Path) -> None:
    path = folder / "results" / CALIBRATION
    (folder / "again").mkdir()
    (folder / "again" / CALIBRATION).write_text(path.read_text())
    ended = miniature(folder, "run", "C3", "--seeds", "1", "--baselines", "meter", results="again")
    assert ended.returncode == 0, ended.stderr[-3000:]
    first, second = (
        read_run(folder / results / "runs" / "meter_vanilla_seed1.json") for results in ("results", "again")
    )
    assert first.points == second.points
    assert first.fine_tuned == second.fine_tuned
    assert first.curves == second.curves
