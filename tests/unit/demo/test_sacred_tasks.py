"""What the downstream tasks of METER and ViLT run, and how their scores are read."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from sacred.arg_parser import get_config_updates

from demo.chance import Answered, Labelled, of_answers, of_labels
from demo.task_recipes import TaskSettings
from demo.task_recipes_sacred import SacredTasks, tables
from demo.task_runs import BASELINES
from demo.task_scores_sacred import scores
from demo.tasks_run import parse
from scenes.coco_layout import TRUTH_FILE, Request, write_coco
from scenes.task_layouts import write_tasks
from tests.unit.configs import resolve
from vlp.baseline import get_baseline

SACRED = [name for name, about in BASELINES.items() if isinstance(about, SacredTasks)]
TRAINED = {"meter": ["Retrieval", "VQA", "VE", "NLVR"], "vilt": ["Retrieval", "VQA", "NLVR"]}
DATA = {"zero_shot": "coco", "Retrieval": "coco", "VQA": "vqa", "VE": "snli", "NLVR": "nlvr2"}
NAMED = {**DATA, "Retrieval": "irtr_coco"}


@pytest.fixture(params=SACRED)
def settings(request: pytest.FixtureRequest, tmp_path: Path) -> TaskSettings:
    made = parse(["--baseline", request.param, "--output", str(tmp_path), "--pretrain-epochs", "3", "--seed", "7"])
    made.language_model.mkdir(parents=True)
    (made.language_model / "config.json").write_text('{"vocab_size": 99}')
    return made


def read(settings: TaskSettings, name: str) -> dict[str, Any]:
    """The config of a run, checked as the launcher checks it."""
    script, word, *items = BASELINES[settings.baseline].arguments(settings, name)
    assert (script, word) == ("run.py", "with")
    updates, named = get_config_updates(items)
    baseline = get_baseline(settings.baseline)
    config = resolve(baseline.experiment, named, **updates)
    baseline.check(config)
    return config


def test_every_command_is_one_that_the_launcher_reads(settings: TaskSettings) -> None:
    about = BASELINES[settings.baseline]
    trained, runs = TRAINED[settings.baseline], about.runs(settings)
    assert list(about.tasks) == ["zero_shot", *trained]
    assert runs == ["Pretrain", "zero_shot", *(run for task in trained for run in (task, f"{task}_test"))]
    assert runs == list(about.recipes(settings))
    pretrained = settings.output / "Pretrain/mlm_itm_seed7_from_/version_0/checkpoints/last.ckpt"
    for name in runs:
        config, task = read(settings, name), name.removesuffix("_test")
        scored = name == "zero_shot" or name.endswith("_test")
        tuned = settings.output / task / f"finetune_{NAMED.get(task)}_seed7_from_last"
        start = tuned / "version_0/checkpoints/last.ckpt" if name.endswith("_test") else pretrained
        assert config["load_path"] == ("" if name == "Pretrain" else str(start))
        assert config["log_dir"] == str(settings.output / name) and config["seed"] == 7
        assert config["datasets"] == [DATA.get(task, "coco")] and config["data_root"] == str(tables(settings))
        assert (config["test_only"], config["get_recall_metric"]) == (scored, scored and DATA.get(task) == "coco")
        assert config["resume_from"] == (None if scored else "auto")
        assert scored or (config["max_steps"] is None and config["max_epoch"] == about.recipes(settings)[name].epochs)
        assert (config["vocab_size"], config["tokenizer"]) == (99, str(settings.language_model))
        assert config["hidden_size"] < 768


def test_a_run_that_went_on_is_started_from_where_it_ended(settings: TaskSettings) -> None:
    """Version 10 comes after version 9."""
    about = BASELINES[settings.baseline]
    assert isinstance(about, SacredTasks)
    folder = settings.output / "Pretrain" / "mlm_itm_seed7_from_"
    for number in (9, 10):
        (folder / f"version_{number}" / "checkpoints").mkdir(parents=True)
        (folder / f"version_{number}" / "checkpoints" / "last.ckpt").touch()
    (folder / "version_11" / "checkpoints").mkdir(parents=True)  # killed before its first checkpoint
    last = folder / "version_10" / "checkpoints" / "last.ckpt"
    assert about.checkpoint(settings, "Pretrain") == about.recipes(settings)["NLVR"].checkpoint == last


# Scores --------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def scenes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("scenes")
    write_coco(folder / "coco", Request(train=30, val=3, test=6, captions=2, image_size=64, seed=0))
    write_tasks(folder / "coco", folder / "tasks")
    return folder


def write(folder: Path, results: dict[str, Any]) -> Path:
    """A test run's results."""
    path = folder / "run" / "version_0" / "results.json"
    path.parent.mkdir(parents=True)
    path.write_text(json.dumps(results))
    return folder / "run"


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_accuracies_stand_beside_what_the_words_say(scenes: Path, tmp_path: Path) -> None:
    """Of the statements and hypotheses that the layouts hold."""
    files = {
        "NLVR": ("nlvr2", "nlvr2/nlvr2/data/{}.json", "test1", "sentence", "label"),
        "VE": ("snli", "snli/snli_ve_{}.jsonl", "test", "sentence2", "gold_label"),
    }
    for task, (name, file, test, text, label) in files.items():
        run = write(
            tmp_path / task, {"metrics": {f"{name}/test/accuracy_epoch": 0.75, f"{name}/dev/accuracy_epoch": 0}}
        )
        (score,) = scores(task, run, scenes / "coco" / TRUTH_FILE)
        learnt, asked = (
            [
                Labelled(row[text].lower().rstrip("."), row[label])
                for row in lines(scenes / "tasks" / file.format(split))
            ]
            for split in ("train", test)
        )
        blind = of_labels(learnt, asked)
        assert (score.task, score.metric, score.value) == (task, f"{name}/test/accuracy_epoch", 75)
        assert score.items == len(asked) == (12 if task == "NLVR" else 18)
        assert score.chance == pytest.approx(100 * blind.chance) and score.blind == pytest.approx(100 * blind.alone)


def test_answers_are_scored_by_the_truth_of_the_test_scenes(scenes: Path, tmp_path: Path) -> None:
    truth = scenes / "coco" / TRUTH_FILE
    asked = json.loads((scenes / "tasks" / "vqa" / "v2_OpenEnded_mscoco_test2015_questions.json").read_text())
    right = {
        (record["cocoid"], each["question"]): each["answer"] for record in lines(truth) for each in record["questions"]
    }
    for wrong in (0, 5):
        answers = [
            {"question_id": each["question_id"], "answer": right[each["image_id"], each["question"]]}
            for each in asked["questions"]
        ]
        for each in answers[:wrong]:
            each["answer"] = "unknown"
        submission = tmp_path / f"{wrong}.json"
        submission.write_text(json.dumps(answers))
        run = write(tmp_path / str(wrong), {"metrics": {}, "submission": str(submission)})
        (score,) = scores("VQA", run, truth)
        assert (score.task, score.items) == ("VQA", len(answers))
        assert score.value == pytest.approx(100 * (1 - wrong / len(answers)))
        assert score.blind is not None and 10 < score.chance < score.blind < 80


def test_recalls_stand_beside_chance(scenes: Path, tmp_path: Path) -> None:
    recalls = {f"recalls/{way}_r{k}": k / 20 for way in ("tr", "ir") for k in (1, 5, 10)}
    found = scores("zero_shot", write(tmp_path, {"metrics": recalls}), scenes / "coco" / TRUTH_FILE)
    assert {score.metric: (score.value, score.items) for score in found} == {
        f"recalls/{way}_r{k}": (5 * k, 6) for way in ("tr", "ir") for k in (1, 10)
    }
    assert {score.metric: score.chance for score in found}["recalls/ir_r1"] == pytest.approx(100 / 6)


def test_the_words_alone() -> None:
    """Of texts that tell everything, and of others that tell nothing."""
    learnt = [Labelled("a red ball", "yes"), Labelled("a green ball", "no"), Labelled("a red cup", "yes")]
    assert of_labels(learnt, [Labelled("red", "yes"), Labelled("green", "no")]) == (0.5, 1, 2)
    known = [Answered("what colour", ["red"] * 10), Answered("how many", ["2"] * 10), Answered("how many", ["2"] * 10)]
    asked = [Answered("what colour", ["red"] * 10), Answered("how many", ["2"] + ["3"] * 9)]
    assert of_answers(known, asked) == pytest.approx((0.15, 0.65, 2))
