"""A row of every table and baseline from its data to its cells, by the real launchers, at the least sizes."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from reproduce import state
from reproduce.__main__ import main
from reproduce.experiments import load
from reproduce.report.readings import FROM_SERVER
from tests.launch.launcher import ENVIRONMENT, ROOT
from tests.unit.reproduce.cluster import Cluster

LOCAL = (
    *("table1/meter-4m-epic", "table1/albef-4m-epic", "table1/xvlm-4m", "table1/vilt-4m"),
    *("table3/meter-16m-epic", "table3/albef-4m", "table3/xvlm-4m-epic", "table3/vilt-4m"),
    *("table4/itc-lm", "table5/lm-trained"),
)
BY_SLURM = ("table2/xvlm-4m-epic", "table2/vilt-4m-epic")


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("reproduced")


@pytest.fixture(autouse=True)
def alone(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("OMP_NUM_THREADS", "HF_HUB_OFFLINE"):
        monkeypatch.setenv(name, ENVIRONMENT[name])


def measured(root: Path, row: str) -> dict[str, float]:
    """The cells of a row that its stages have left, read without the report."""
    found: dict[str, float] = {}
    for cell in load().row(row).cells:
        if cell.column.startswith("vqa"):
            scores = json.loads((root / cell.stage / FROM_SERVER).read_text())
            found |= {cell.column: scores[cell.column]} if cell.column in scores else {}
            continue
        path = state.results_file(root / cell.stage)
        assert path is not None, cell.stage
        split = {"dev": "val"}.get(cell.split, cell.split)
        found[cell.column] = json.loads(path.read_text())["paper"][split][cell.column]
    return found


def check_row(root: Path, row: str, capsys: pytest.CaptureFixture[str]) -> None:
    found = measured(root, row)
    columns = {cell.column for cell in load().row(row).cells} - {"vqa_test_std"}
    assert set(found) == columns and all(0 <= value <= 100 for value in found.values())
    capsys.readouterr()
    assert main(["run", row, "--scale", "smoke", "--output", str(root)]) == 0
    said = capsys.readouterr().out
    assert "$ " not in said and said.count("done before") >= len(load().row(row).stages)


@pytest.mark.slow
@pytest.mark.parametrize("row", LOCAL)
def test_a_row_on_this_machine(root: Path, row: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["run", row, "--scale", "smoke", "--output", str(root)]) == 0
    check_row(root, row, capsys)


@pytest.mark.slow
@pytest.mark.parametrize("row", BY_SLURM)
def test_a_row_by_slurm(
    root: Path, row: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    cluster = Cluster(tmp_path / "cluster")
    monkeypatch.setenv("PATH", cluster.path)
    assert main(["run", row, "--scale", "smoke", "--launcher", "slurm", "--output", str(root)]) == 0
    cluster.work()
    states = {about["state"] for about in cluster.jobs.values()}
    assert states == {"COMPLETED"}, capsys.readouterr().out
    check_row(root, row, capsys)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("stage", "scale"), [("vilt/4m/vanilla/pretrain", "smoke"), ("albef/4m/vanilla/pretrain", "scenes")]
)
def test_a_signal_saves_and_the_same_command_goes_on(stage: str, scale: str, tmp_path: Path) -> None:
    """METER's and ViLT's own status, and that which torchrun hides; a run that says a step before its last one."""
    command = [sys.executable, "-m", "reproduce", "run", stage, "--scale", scale, "--output", str(tmp_path)]
    log = tmp_path / stage / state.LOG
    pipeline = subprocess.Popen(command, cwd=ROOT, env=ENVIRONMENT)
    while not log.exists() or "\nstep " not in log.read_text():
        assert pipeline.poll() is None
        time.sleep(0.1)
    pipeline.send_signal(signal.SIGINT)
    assert pipeline.wait() == state.AGAIN
    record = state.read(tmp_path / stage)
    assert record is not None and record["state"] == "stopped" and "stopped by a signal after step" in log.read_text()
    assert subprocess.run(command, cwd=ROOT, env=ENVIRONMENT).returncode == 0
    record = state.read(tmp_path / stage)
    assert record is not None and record["state"] == "done" and record["attempts"] == 2
    assert "[resume] auto: " in log.read_text() and "a new run starts" not in log.read_text().split("stopped by")[1]
