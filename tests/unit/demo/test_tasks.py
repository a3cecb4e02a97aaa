"""What the downstream tasks of the demo run, and what their scores are compared with."""

from __future__ import annotations

import json
from itertools import combinations
from pathlib import Path
from typing import Any

import pytest

from albef.config import COMMANDS
from demo.chance import BagOfWords, of_answers, of_boxes, of_labels, recall_by_chance
from demo.settings import REPOSITORY
from demo.task_runs import LAYOUTS, NEEDS, TaskSettings, arguments, recipes
from demo.task_scores import TASKS, scores
from demo.tasks import claim_output, parse
from scenes.coco_layout import Request, write_coco
from scenes.task_layouts import write_tasks
from vlp.data.json.convert import convert
from vlp.yaml_dialect.command_line import resolved


@pytest.fixture(scope="module")
def lists(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tasks")
    write_coco(folder / "coco", Request(train=30, val=6, test=6, captions=2, image_size=64, seed=0))
    write_tasks(folder / "coco", folder / "tasks", LAYOUTS)
    for name in ("vqa", "snli", "nlvr2", "refcoco+"):
        convert(name, folder / "tasks" / name, folder / "lists", quiet=True)
    return folder / "lists"


# Chance --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("relevant", "candidates"), [(1, 5), (2, 6), (3, 4)])
def test_recall_by_chance_is_that_of_all_orders(relevant: int, candidates: int) -> None:
    for k in range(1, candidates + 1):
        first = list(combinations(range(candidates), k))
        found = sum(any(place < relevant for place in chosen) for chosen in first)
        assert recall_by_chance(relevant, candidates, k) == pytest.approx(100 * found / len(first))
    assert recall_by_chance(relevant, candidates, candidates + 3) == 100


def test_words_that_tell_the_label_are_learnt() -> None:
    model = BagOfWords(["a red ball", "a red cup", "a green ball", "the red tree"], ["yes", "yes", "no", "yes"])
    assert model.most_frequent == "yes"
    assert [model.label(text) for text in ("a red kite", "green", "nothing known")] == ["yes", "no", "yes"]


def test_labels_without_the_image(lists: Path) -> None:
    chance, alone, items = of_labels(lists / "ve_train.json", lists / "ve_test.json")
    assert chance == pytest.approx(1 / 3) and items == 18  # one of each label an image
    assert 0.5 < alone < 0.9  # what cannot be seen is said in words of its own
    statements = of_labels(lists / "nlvr_train.json", lists / "nlvr_test.json")
    assert statements.chance == 0.5 and statements.items == 12


def test_answers_without_the_image(lists: Path) -> None:
    chance, alone, items = of_answers(lists / "vqa_train.json", lists / "vqa_val.json")
    assert items == len(json.loads((lists / "vqa_val.json").read_text()))
    assert 0.1 < chance < alone < 0.8  # that a question of colours has a colour for an answer is known


def test_boxes_without_the_image(lists: Path) -> None:
    """One proposal of an object and those of the others are right for it, if they overlap so much."""
    files = [lists / f"refcoco+_{split}.json" for split in ("val", "test")]
    found = of_boxes(lists, lists / "refcoco+" / "dets.json", files)
    assert set(found) == {"val", "testA", "testB"}
    assert sum(each.items for each in found.values()) == sum(len(json.loads(path.read_text())) for path in files)
    for split, each in found.items():
        assert 1 / 9 < each.chance < 1 / 4, split  # four distractors, and an object or several
        assert 0 <= each.alone <= 1


# Runs ----------------------------------------------------------------------------------------------------


@pytest.fixture
def settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> TaskSettings:
    """Of a folder where every file that a command names is there."""
    made = parse(["--output", str(tmp_path), "--pretrain-epochs", "3", "--seed", "7"])
    (made.lists / "refcoco+").mkdir(parents=True)
    names = [
        *("coco", "coco_train", "coco_val", "coco_test", "vqa_train", "vqa_val", "answer_list"),
        *(f"{each}_{split}" for each in ("ve", "nlvr") for split in ("train", "dev", "test")),
        *("refcoco+_train", "refcoco+_val", "refcoco+_test", "refcoco+/dets"),
    ]
    for name in names:
        (made.lists / f"{name}.json").touch()
    made.language_model.mkdir()
    (made.language_model / "config.json").write_text('{"vocab_size": 99}')
    for checkpoint in filter(None, (recipe.checkpoint for recipe in recipes(made).values())):
        checkpoint.parent.mkdir(exist_ok=True)
        checkpoint.touch()
    monkeypatch.chdir(REPOSITORY / "albef")
    return made


def read(settings: TaskSettings, name: str) -> dict[str, Any]:
    """What the script reads from the command of a run."""
    _, script, *argv = arguments(settings, name)
    return resolved(COMMANDS[script.removesuffix(".py")], argv)


def test_every_command_is_one_that_its_script_reads(settings: TaskSettings) -> None:
    assert settings.runs == ["Pretrain", *(name for task in TASKS for name in NEEDS.get(task, (task,)))]
    for name in settings.runs:
        config = read(settings, name)
        assert config["output_dir"] == str(settings.output / name) and config["seed"] == 7
        assert config["bert_config"]["vocab_size"] == 99 and config["bert_config"]["hidden_size"] < 768
        assert config.get("evaluate", False) == (name == "zero_shot")
        start = {"Pretrain": "", "NLVR": "Pretrain_nlvr/checkpoint_00.pth"}.get(name, "Pretrain/checkpoint_02.pth")
        assert config["checkpoint"] == (str(settings.output / start) if start else "")
    assert read(settings, "VQA")["test_file"] == str(settings.lists / "vqa_val.json")


def test_a_task_alone_needs_pre_training_and_its_own_runs(tmp_path: Path) -> None:
    one = parse(["--output", str(tmp_path), "--tasks", "NLVR"])
    assert one.runs == ["Pretrain", "Pretrain_nlvr", "NLVR"]
    claim_output(one)
    claim_output(parse(["--output", str(tmp_path), "--tasks", "VE"]))  # joins
    with pytest.raises(SystemExit, match="holds tasks of other settings"):
        claim_output(parse(["--output", str(tmp_path), "--train-images", "9"]))


def test_scores_stand_beside_chance(lists: Path, tmp_path: Path) -> None:
    (tmp_path / "results.json").write_text(json.dumps({"metrics": {"test_acc": 0.75}, "items": {"test": 18}}))
    (score,) = scores("VE", tmp_path, lists)
    assert (score.metric, score.value, score.items) == ("test_acc", 75.0, 18)
    assert score.chance == pytest.approx(100 / 3) and score.blind is not None and score.blind > score.chance
    recalls = {f"test_{way}_r{k}": 10.0 for way in ("txt", "img") for k in (1, 10)}
    (tmp_path / "results.json").write_text(json.dumps({"metrics": recalls, "items": {"test": 20}}))
    chances = {score.metric: score.chance for score in scores("zero_shot", tmp_path, lists)}
    assert chances["test_img_r1"] == pytest.approx(5) and chances["test_txt_r1"] == pytest.approx(5)
    assert chances["test_img_r10"] == pytest.approx(50)
