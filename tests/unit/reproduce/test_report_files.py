"""From the results files of all four baselines, as their launchers write them, to cells; and what is no result."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from reproduce import state
from reproduce.__main__ import main
from reproduce.experiments import Places, load, printed_tables
from reproduce.pipeline import plan
from reproduce.report.command import FORMATS, report_of
from reproduce.report.hashes import Hashes
from reproduce.report.pages import Report, link
from reproduce.report.readings import Readings, Source
from tests.unit.reproduce.report_pages import READERS
from vlp.baseline import get_baseline
from vlp.files import write_json
from vlp.sacred_dialect import run as sacred_run
from vlp.sacred_dialect.baseline import sacred_baselines
from vlp.yaml_dialect.baseline import YamlBaseline
from vlp.yaml_dialect.results import write_results

EXPERIMENTS, PRINTED = load(), printed_tables()
HASH = "of the stage"
RECALLS = {"ir_r1": 0.1, "ir_r5": 0.2, "ir_r10": 0.3, "tr_r1": 0.4, "tr_r5": 0.5, "tr_r10": 0.6}
TUNED_ON_FLICKR = {"train_file": ["lists/flickr30k_train.json"], "k_test": 128}


def record(root: Path, stage: str, **changes: Any) -> Path:
    """The stage.json of a stage that is done; its folder."""
    content = {"stage": stage, "config_hash": HASH, "state": "done", "scale": "paper"}
    write_json(root / stage / "stage.json", {**content, **changes})
    return root / stage


def checkpoint(path: Path, config: Mapping[str, Any]) -> Path:
    """A file of a run with this configuration."""
    torch.save({"state_dict": {"w": torch.zeros(1)}, "hyper_parameters": {"config": dict(config)}}, path)
    return path


def sacred(root: Path, stage: str, metrics: Mapping[str, float], tasks: list[str], **config: Any) -> Path:
    """What METER's or ViLT's evaluation of a stage leaves; the path of results.json."""
    folder = record(root, stage)
    settings = {"get_recall_metric": False, "eval_split": "test", "zero_shot_protocol": "pretrained", **config}
    trained = {"datasets": settings.pop("trained_on", []), "loss_names": {"irtr": 1}}
    settings["load_path"] = str(checkpoint(folder / "last.ckpt", trained))
    trainer = SimpleNamespace(callback_metrics=metrics, global_step=0)
    built: Any = SimpleNamespace(trainer=trainer, model=SimpleNamespace(current_tasks=tasks), datamodule=None)
    run = folder / "finetune_seed0_from_" / "version_0"
    run.mkdir(parents=True)
    sacred_run.write_results(sacred_baselines()[stage.split("/")[0]], built, settings, run)
    return run / "results.json"


def with_lists(root: Path, stage: str, script: str, results: Mapping[str, Any], **config: Any) -> Path:
    """What a script of ALBEF or X-VLM leaves in a stage; the path of results.json."""
    folder = record(root, stage)
    baseline = get_baseline(stage.split("/")[0])
    assert isinstance(baseline, YamlBaseline)
    path = checkpoint(folder / "checkpoint_best.pth", config.pop("trained_on", {}))
    sets = {split: [0] for split in results}
    write_results(
        folder, baseline.name, baseline.scripts[script], config, SimpleNamespace(sets=sets), results, path, epoch=1
    )
    return folder / "results.json"


def flickr_of_albef(root: Path, **trained_on: Any) -> Path:
    recalls = {f"{way}_{rank}": value for way, value in (("txt", 90.0), ("img", 80.0)) for rank in ("r1", "r5", "r10")}
    config = {f"{split}_file": f"lists/flickr30k_{split}.json" for split in ("val", "test")}
    results = {"val": dict.fromkeys(recalls, 1.0), "test": recalls}
    return with_lists(
        root, "albef/4m/vanilla/f30k_ft", "Retrieval", results, trained_on=trained_on or TUNED_ON_FLICKR, **config
    )


def read(root: Path) -> tuple[dict[str, tuple[float, Source]], list[str]]:
    """The measured cells of all rows by name, and the problems."""
    readings = Readings(EXPERIMENTS, root, lambda stage, record: HASH)
    found = {}
    for row in EXPERIMENTS.rows.values():
        for cell in row.cells:
            if (reading := readings(cell)) is not None:
                found[f"{row.name}/{cell.column}"] = (reading.value, reading.source)
    return found, readings.problems


def values(root: Path) -> dict[str, float]:
    found, problems = read(root)
    assert problems == []
    return {name: value for name, (value, _) in found.items()}


def test_recalls_of_meter(tmp_path: Path) -> None:
    metrics = {f"recalls/{name}": value for name, value in RECALLS.items()}
    more: dict[str, Any] = {"get_recall_metric": True, "datasets": ["f30k"]}
    path = sacred(tmp_path, "meter/4m/epic/f30k_ft_eval", metrics, ["irtr"], trained_on=["f30k"], **more)
    sacred(tmp_path, "meter/4m/epic/f30k_zs", metrics, ["irtr"], **more)
    names = {
        f"table1/meter-4m-epic/f30k_{way}_{name}": value for way in ("ft", "zs") for name, value in RECALLS.items()
    }
    assert values(tmp_path) == {name: pytest.approx(100 * value) for name, value in names.items()}
    cells = read(tmp_path)[0]
    (_, found), (_, zero_shot) = (cells[f"table1/meter-4m-epic/f30k_{way}_tr_r1"] for way in ("ft", "zs"))
    digest = hashlib.sha256((tmp_path / "meter/4m/epic/f30k_ft_eval/last.ckpt").read_bytes()).hexdigest()
    assert (found.path, found.sha256, found.scale) == (path, digest, "")
    assert found.protocol.endswith("every pair scored by the fusion layers")
    assert zero_shot.protocol == f"{found.protocol}; zero-shot protocol pretrained"


def test_the_ablation_is_measured_on_validation(tmp_path: Path) -> None:
    stage = "meter/ablation/epic/nlvr2_eval"
    metrics = {"nlvr2/dev/accuracy_epoch": 0.81, "nlvr2/test/accuracy_epoch": 0.5}
    sacred(tmp_path, stage, metrics, ["nlvr2"], datasets=["nlvr2"])
    measured = values(tmp_path)
    assert measured == {f"table{n}/{row}/nlvr2_dev": pytest.approx(81) for n, row in ((4, "epic"), (5, "lm-finetune"))}


def test_accuracies_of_vilt_and_of_scripts(tmp_path: Path) -> None:
    metrics = {"nlvr2/dev/accuracy_epoch": 0.75, "nlvr2/test/accuracy_epoch": 0.5}
    sacred(tmp_path, "vilt/4m/vanilla/nlvr2_eval", metrics, ["nlvr2"], datasets=["nlvr2"])
    with_lists(tmp_path, "albef/16m/epic/snli", "VE", {"val": {"acc": 0.8}, "test": {"acc": 0.7}})
    with_lists(tmp_path, "xvlm/4m/vanilla/nlvr2", "NLVR", {"val": {"acc": 0.6}, "test": {"acc": 0.4}})
    assert values(tmp_path) == {
        **{"table3/vilt-4m/nlvr2_dev": 75.0, "table3/vilt-4m/nlvr2_test": 50.0},
        **{"table3/albef-16m-epic/snli_ve_dev": pytest.approx(80), "table3/albef-16m-epic/snli_ve_test": 70.0},
        **{"table3/xvlm-4m/nlvr2_dev": 60.0, "table3/xvlm-4m/nlvr2_test": 40.0},
    }


def test_recalls_of_a_script_are_those_of_the_cells_split(tmp_path: Path) -> None:
    flickr_of_albef(tmp_path)
    expected = {f"f30k_ft_{way}_r{k}": value for way, value in (("tr", 90.0), ("ir", 80.0)) for k in (1, 5, 10)}
    assert values(tmp_path) == {f"table1/albef-4m/{name}": value for name, value in expected.items()}


def test_scores_of_the_evaluation_server(tmp_path: Path) -> None:
    with_lists(tmp_path, "xvlm/4m/epic/vqa", "VQA", {})
    assert values(tmp_path) == {}  # of the test questions no run knows its score
    write_json(tmp_path / "xvlm/4m/epic/vqa/server_scores.json", {"vqa_test_dev": 78.4})
    assert values(tmp_path) == {"table3/xvlm-4m-epic/vqa_test_dev": 78.4}
    _, found = read(tmp_path)[0]["table3/xvlm-4m-epic/vqa_test_dev"]
    assert "evaluation server" in found.protocol and len(found.sha256) == 64
    changed(found.path, protocol="of scenes")
    assert read(tmp_path)[0]["table3/xvlm-4m-epic/vqa_test_dev"][1].protocol == "of scenes"


def test_the_last_evaluation_counts(tmp_path: Path) -> None:
    metrics = {"nlvr2/dev/accuracy_epoch": 0.75, "nlvr2/test/accuracy_epoch": 0.5}
    first = sacred(tmp_path, "vilt/4m/vanilla/nlvr2_eval", metrics, ["nlvr2"], datasets=["nlvr2"])
    second = first.parent.with_name("version_1") / first.name
    second.parent.mkdir()
    second.write_text(first.read_text().replace("75.0", "76.0"))
    os.utime(first, ns=(1, 1))
    assert values(tmp_path)["table3/vilt-4m/nlvr2_dev"] == 76.0


# What is no result ------------------------------------------------------------------------------------------------


def changed(path: Path, **changes: Any) -> None:
    write_json(path, {**json.loads(path.read_text()), **changes})


def hash_of_another(path: Path) -> None:
    changed(path.with_name("stage.json"), config_hash="another")


def no_record(path: Path) -> None:
    path.with_name("stage.json").unlink()


def unfinished(path: Path) -> None:
    changed(path.with_name("stage.json"), state="running")


def half(path: Path) -> None:
    path.write_text(path.read_text()[:100])


def a_list(path: Path) -> None:
    path.write_text("[1]")


def no_text(path: Path) -> None:
    path.write_bytes(b"\xff\xfe\x00")


def of_another_baseline(path: Path) -> None:
    changed(path, baseline="xvlm")


def another_split(path: Path) -> None:
    paper = json.loads(path.read_text())["paper"]
    changed(path, paper={"val": paper["val"]})


def no_columns(path: Path) -> None:
    changed(path, paper={})


def no_splits(path: Path) -> None:
    changed(path, paper={"test": 3})


def no_number(path: Path) -> None:
    path.write_text(path.read_text().replace("90.0", "NaN").replace("80.0", "1e9"))


@pytest.mark.parametrize(
    ("break_it", "says"),
    [
        (hash_of_another, "config_hash"),
        (no_record, "its stage has no stage.json"),
        (unfinished, "running"),
        (half, "is no JSON"),
        (a_list, "holds no keys"),
        (no_text, "is no JSON"),
        (of_another_baseline, "is of baseline 'xvlm', the stage is of albef"),
        (another_split, "lacks columns of test"),
        (no_columns, "none of the paper's columns"),
        (no_splits, "columns by split"),
        (no_number, "no number from 0 to 100"),
    ],
)
def test_what_is_no_result_is_named_and_not_shown(break_it: Any, says: str, tmp_path: Path) -> None:
    path = flickr_of_albef(tmp_path)
    break_it(path)
    found, problems = read(tmp_path)
    assert found == {} and problems
    assert all(problem.startswith(f"{path.relative_to(tmp_path)}: ") for problem in problems) and says in problems[0]
    assert len(problems) == (6 if break_it is no_number else 1)
    made = report_of(EXPERIMENTS, PRINTED, tmp_path, lambda stage, record: HASH)
    for name, (_, page) in FORMATS.items():
        text = page(made, tmp_path)
        assert "Results that are not shown" in text
        assert {cell.text for line in READERS[name](text) if line.what == "measured" for cell in line.cells} == {
            "",
            "–",
        }


def test_a_model_that_was_not_tuned_on_the_data_is_not_shown_as_one(tmp_path: Path) -> None:
    flickr_of_albef(tmp_path, train_file=["lists/coco_train.json"], k_test=128)
    found, (problem,) = read(tmp_path)
    assert found == {} and "f30k_zs" in problem


@pytest.mark.parametrize("machines", [(None, None), (4, 2)])
def test_the_hash_of_a_run_is_that_of_its_stage_wherever_it_is_read(
    machines: tuple[int | None, int | None], tmp_path: Path
) -> None:
    """A chain of stages is planned, which is what a run writes down; then its folder is moved."""
    here = Places(tmp_path / "data", tmp_path / "root")
    names = ["albef/4m/epic/f30k_zs", "meter/4m/epic/f30k_ft_eval"]
    planned = plan(EXPERIMENTS, names, here, *machines)
    for each in planned:
        state.write(each.folder, each.record("paper"))
    moved = Places(tmp_path / "elsewhere", tmp_path / "moved")
    here.root.rename(moved.root)
    hashes = Hashes(EXPERIMENTS, moved)
    for each in planned:
        if each.stage.kind != "check":
            assert hashes(each.stage, state.read(moved.folder(each.stage.name)) or {}) == each.config_hash
    # Another teacher is another student: what a stage starts from is part of its hash.
    teacher, student = (EXPERIMENTS.stage(f"albef/4m/{model}/pretrain") for model in ("vanilla", "epic"))
    changed_teacher = dataclasses.replace(teacher, command=(*teacher.command, "seed=7"))
    others = dataclasses.replace(EXPERIMENTS, stages={**EXPERIMENTS.stages, teacher.name: changed_teacher})
    record_of_student = state.read(moved.folder(student.name)) or {}
    assert Hashes(others, moved)(student, record_of_student) != record_of_student["config_hash"]


# The pages --------------------------------------------------------------------------------------------------------


def with_results(root: Path) -> Report:
    flickr_of_albef(root)
    metrics = {"nlvr2/dev/accuracy_epoch": 0.75, "nlvr2/test/accuracy_epoch": 0.5}
    sacred(root, "vilt/4m/vanilla/nlvr2_eval", metrics, ["nlvr2"], datasets=["nlvr2"])
    return report_of(EXPERIMENTS, PRINTED, root, lambda stage, record: HASH)


@pytest.mark.parametrize("name", FORMATS)
def test_a_measured_cell_leads_to_its_file_and_footnote(name: str, tmp_path: Path) -> None:
    root = tmp_path / "a % root"
    made = with_results(root)
    text = FORMATS[name][1](made, root)
    addresses = {cell.address for line in READERS[name](text) for cell in line.cells} - {""}
    plain = {address.replace("\\", "") for address in addresses}
    sources = [source for table in made.tables for source in table.sources]
    assert plain == {link(source, root) for source in sources} and len(sources) == 2
    assert all((root / address).is_file() for address in plain)
    for source in sources:
        assert source.sha256 in text and source.stage in text.replace("\\", "")
    assert {source.number for source in sources} == {1, 2}


def test_cells_that_share_a_file_share_its_footnote(tmp_path: Path) -> None:
    made = with_results(tmp_path)
    first, _, third, *_ = made.tables
    assert [source.stage for source in first.sources] == ["albef/4m/vanilla/f30k_ft"]
    assert [source.stage for source in third.sources] == ["vilt/4m/vanilla/nlvr2_eval"]


# The command ------------------------------------------------------------------------------------------------------


def planned_result(root: Path) -> Path:
    """A stage that was run by the very command that it has, as its stage.json says."""
    places = Places(root / "data", root)
    (*_, last) = plan(EXPERIMENTS, ["albef/4m/vanilla/snli"], places)
    with_lists(root, last.stage.name, "VE", {"val": {"acc": 0.123}, "test": {"acc": 0.124}})
    state.write(last.folder, {**last.record("paper"), "state": "done"})
    return last.folder


@pytest.mark.parametrize("formats", [["md"], ["html", "latex"]])
def test_the_command_writes_the_formats_and_says_where(
    formats: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    planned_result(tmp_path)
    sacred(tmp_path, "vilt/4m/vanilla/nlvr2_eval", {}, ["nlvr2"], datasets=["nlvr2"])
    assert main(["report", "--output", str(tmp_path), "--format", *formats]) == 0
    said = capsys.readouterr()
    pages = [tmp_path / FORMATS[name][0] for name in formats]
    assert [f"written: {path}" for path in pages] == [line for line in said.out.splitlines() if "written" in line]
    assert sorted(tmp_path.glob("report.*")) == sorted(pages)
    problem = "warning: not shown: vilt/4m/vanilla/nlvr2_eval/finetune_seed0_from_/version_0/results.json: "
    assert said.err.startswith(f"{problem}was made by another command")
    for name, path in zip(formats, pages, strict=True):
        measured = [line for line in READERS[name](path.read_text()) if line.what == "measured"]
        shown = {cell.text for line in measured for cell in line.cells} - {"", "–"}
        assert shown == {"12.3", "12.4"}


def test_a_command_that_has_changed_since_hides_its_results(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = planned_result(tmp_path)
    changed(folder / "stage.json", gpus=4)  # ALBEF's batch is that of a GPU: another number is another training
    assert main(["report", "--output", str(tmp_path), "--format", "md"]) == 0
    assert "another command" in capsys.readouterr().err and "12.3" not in (tmp_path / "report.md").read_text()
