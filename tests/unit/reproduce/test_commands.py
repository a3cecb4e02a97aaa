"""The commands as a user types them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from reproduce import state
from reproduce.__main__ import main
from reproduce.experiments import load
from scenes.coco_layout import Request, write_coco
from vlp.data.arrow.convert import convert
from vlp.data.json.convert import make_lists


def test_list_has_every_row_with_its_cost(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "160")
    assert main(["list"]) == 0
    said = capsys.readouterr().out
    assert all(name in said for name in (*load().rows, *load().figures))
    assert said.count("x A100-80: ") == len(load().rows) and "35% of the peak" in said


def test_show_prints_the_commands_and_the_printed_numbers(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["show", "table2/vilt-4m-epic"]) == 0
    said = capsys.readouterr().out
    assert (
        "cd vilt && python run.py with" in said and "epic 'teacher_path={checkpoint:vilt/4m/vanilla/pretrain}'" in said
    )
    assert "coco_zs_tr_r1 64.1 (test): vilt/4m/epic/coco_zs" in said


def test_a_dry_run_changes_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    places = ["--data", str(tmp_path / "data"), "--output", str(tmp_path / "runs")]
    assert main(["run", "table2/vilt-4m", "--dry-run", "--gpus", "4", *places]) == 0
    said = capsys.readouterr().out
    assert f"data_root={tmp_path}/data/arrow num_gpus=4 num_nodes=1 task_mlm_itm" in said
    assert f"load_path={tmp_path}/runs/vilt/4m/vanilla/pretrain/last.ckpt" in said
    assert main(["run", "table2/vilt-4m", "--dry-run", "--launcher", "slurm", *places]) == 0
    assert capsys.readouterr().out.count("#SBATCH --job-name=") == len(load().row("table2/vilt-4m").stages)
    assert not list(tmp_path.iterdir())


def test_fewer_gpus_are_another_batch_of_albef(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["run", "albef/4m/vanilla/pretrain", "--dry-run", "--gpus", "2", "--output", str(tmp_path)]) == 0
    assert "[notice] albef/4m/vanilla/pretrain: its batch is that of a GPU" in capsys.readouterr().out


def test_a_figure_is_drawn_of_what_its_stages_leave(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["run", "figure5", "--dry-run", "--output", str(tmp_path)]) == 0
    said = capsys.readouterr().out
    assert (
        f"figure5 is then drawn by: python -m reproduce figure 5 --baseline meter --checkpoint {tmp_path}/meter/"
        in said
    )


@pytest.mark.parametrize(
    ("argv", "said"),
    [
        (["show", "table1/metre-4m"], "error: there is no row 'table1/metre-4m'; did you mean 'table1/meter-4m'?"),
        (["run", "table9/meter"], "error: there is no row 'table9/meter'; did you mean"),
        (["captions", "--arrow", "/nowhere", "--datasets", "coco", "--output", "/tmp/x"], "error: "),
        (["answers", "/nowhere", "--truth", "/nowhere"], "error: /nowhere: no results.json: run its stage first"),
        (["record", "/nowhere", "--begin"], "error: /nowhere: holds no stage.json"),
    ],
    ids=["show", "run", "captions", "answers", "record"],
)
def test_what_is_wrong_is_one_line(argv: list[str], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(argv) == 1
    found = capsys.readouterr().err
    assert found.startswith(said) and found.count("\n") == 1


def test_status_tells_a_killed_run_from_one_that_runs(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    record = {"stage": "s", "checkpoint": "", "found": "", "scored": False, "config_hash": "h", "began": 0.0}
    stages = [name for name in load().row("table2/vilt-4m").stages if name.startswith("vilt")]
    for name, noted in zip(stages, ("running", "failed"), strict=False):
        (tmp_path / name).mkdir(parents=True)
        state.write(tmp_path / name, {**record, "state": noted, "seconds": 75, "attempts": 2})

    def line() -> str:
        assert main(["status", "table2/vilt-4m", "--output", str(tmp_path)]) == 0
        return next(each for each in capsys.readouterr().out.splitlines() if stages[0] in each)

    assert "stopped" in line() and "1:15" in line()
    with state.locked(tmp_path / stages[0]):
        assert "running" in line()
    assert main(["status", "--output", str(tmp_path)]) == 0
    counted = next(each for each in capsys.readouterr().out.splitlines() if "table2/vilt-4m " in each)
    assert counted.split() == ["table2/vilt-4m", "–", "–", "–", "1", "1", "4"]


def test_captions_are_written_once_each(tmp_path: Path) -> None:
    write_coco(tmp_path / "raw", Request(train=8, val=2, test=2, captions=2, image_size=32))
    convert("coco", tmp_path / "raw", tmp_path / "arrow", quiet=True)
    out = tmp_path / "captions.txt"
    assert main(["captions", "--arrow", str(tmp_path / "arrow"), "--datasets", "coco", "--output", str(out)]) == 0
    images = json.loads(next((tmp_path / "raw").rglob("dataset_coco.json")).read_text())["images"]
    told = {s["raw"].strip() for each in images if each["split"] in ("train", "restval") for s in each["sentences"]}
    found = out.read_text().splitlines()
    assert len(found) == len(set(found)) and set(found) == told
    make_lists("coco", tmp_path / "raw", tmp_path / "lists")
    of_lists = tmp_path / "of_lists.txt"
    assert main(["captions", "--lists", str(tmp_path / "lists" / "coco.json"), "--output", str(of_lists)]) == 0
    assert {*of_lists.read_text().splitlines()} == told


def test_answers_of_lists_are_scored_already(tmp_path: Path) -> None:
    (tmp_path / "results.json").write_text('{"metrics": {"test_acc": 0.25}}')
    assert main(["answers", str(tmp_path), "--truth", "unread"]) == 0
    scores = json.loads((tmp_path / "server_scores.json").read_text())
    assert scores.keys() == {"vqa_test_dev", "protocol"} and scores["vqa_test_dev"] == 25.0
    assert "without an evaluation server" in scores["protocol"]
