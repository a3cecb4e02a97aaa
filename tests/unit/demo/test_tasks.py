"""What the downstream tasks of the demo run, and what their scores are compared with."""

from __future__ import annotations

import json
import pickle
from collections import defaultdict
from itertools import combinations
from pathlib import Path
from typing import Any

import pytest

from demo.chance import BagOfWords, of_boxes, of_captions, of_training_boxes, recall_by_chance
from demo.sizes import REPOSITORY
from demo.task_recipes import TaskSettings
from demo.task_recipes_yaml import YamlTasks
from demo.task_recipes_yaml import lists as lists_of
from demo.task_runs import BASELINES
from demo.task_scores_yaml import of_listed_answers, of_listed_labels, scores
from demo.tasks_run import claim_output, parse
from scenes.coco_layout import Request, write_coco
from scenes.task_layouts import write_tasks
from vlp.baseline import get_baseline
from vlp.data.json.convert import convert
from vlp.yaml_dialect.command_line import resolved

LAYOUTS = ("vqa", "snli", "nlvr2", "refcoco+")


@pytest.fixture(scope="module")
def lists(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tasks")
    write_coco(folder / "coco", Request(train=30, val=6, test=6, captions=2, image_size=64, seed=0))
    write_tasks(folder / "coco", folder / "tasks", LAYOUTS)
    for name in LAYOUTS:
        convert(name, folder / "tasks" / name, folder / "lists", quiet=True)
    convert("coco_karpathy", folder / "coco", folder / "lists", quiet=True)
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
    chance, alone, items = of_listed_labels(lists / "ve_train.json", lists / "ve_test.json")
    assert chance == pytest.approx(1 / 3) and items == 18  # one of each label an image
    assert 0.5 < alone < 0.9  # what cannot be seen is said in words of its own
    statements = of_listed_labels(lists / "nlvr_train.json", lists / "nlvr_test.json")
    assert statements.chance == 0.5 and statements.items == 12


def test_answers_without_the_image(lists: Path) -> None:
    chance, alone, items = of_listed_answers(lists / "vqa_train.json", lists / "vqa_val.json")
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


def test_boxes_of_training_for_those_of_the_test(lists: Path) -> None:
    """Each split's share of pairs that overlap by half, counted here over all boxes of training; ties leave a range."""
    files = [lists / f"refcoco+_{split}.json" for split in ("val", "test")]
    found = of_training_boxes(lists, lists / "refcoco+_train.json", files)
    instances = json.loads((lists / "refcoco+/instances.json").read_text())
    boxes = {each["id"]: each["bbox"] for each in instances["annotations"]}
    refs = pickle.loads((lists / "refcoco+/refs(unc).p").read_bytes())  # written by the fixture
    of_ref = {ref["ref_id"]: (ref["split"], boxes[ref["ann_id"]]) for ref in refs}
    trained = [box for split, box in of_ref.values() if split == "train"]
    named = defaultdict(list)
    for row in json.loads((lists / "refcoco+_train.json").read_text()):
        named[row["text"].split()[-1]].append(of_ref[row["ref_id"]][1])
    asked = [row for path in files for row in json.loads(path.read_text())]
    for split, each in found.items():
        rows = [row for row in asked if of_ref[row["ref_id"]][0] == split]
        shares = [sum(half_covered(of_ref[row["ref_id"]][1], other) for other in trained) for row in rows]
        assert each.items == len(rows)
        assert each.chance == pytest.approx(sum(shares) / len(rows) / len(trained))
        hits = [
            [half_covered(one, of_ref[row["ref_id"]][1]) for one in usual(named.get(row["text"].split()[-1], trained))]
            for row in rows
        ]
        assert sum(map(all, hits)) <= each.alone * len(rows) + 1e-6
        assert sum(map(any, hits)) >= each.alone * len(rows) - 1e-6 and any(map(any, hits))


def usual(boxes: list[list[float]]) -> list[list[float]]:
    """Those that most of them overlap."""
    overlapped = [sum(half_covered(box, other) for other in boxes) for box in boxes]
    return [box for box, count in zip(boxes, overlapped, strict=True) if count == max(overlapped)]


def half_covered(one: list[float], other: list[float]) -> bool:
    width, height = (
        max(0.0, min(one[i] + one[i + 2], other[i] + other[i + 2]) - max(one[i], other[i])) for i in (0, 1)
    )
    union = one[2] * one[3] + other[2] * other[3] - width * height
    return width * height >= 0.5 * union


def test_captions_of_training_for_the_test_images(lists: Path, tmp_path: Path) -> None:
    """Worse than a person's; where training knows one caption, and it is the right one, they score in full."""
    folder = lists / "coco_karpathy"
    drawn = of_captions(folder / "coco_karpathy_train.json", folder / "coco_karpathy_test_gt.json")
    assert 0 < drawn["CIDEr"] < 2 and 0 <= drawn["Bleu_4"] < drawn["Bleu_1"] < 0.8
    (tmp_path / "train.json").write_text(json.dumps([{"image": "1.jpg", "caption": "a red ball on the grass"}]))
    right = {"annotations": [{"image_id": 5, "caption": "A red ball on the grass."}]}
    (tmp_path / "gt.json").write_text(json.dumps(right))
    assert of_captions(tmp_path / "train.json", tmp_path / "gt.json")["Bleu_4"] == pytest.approx(1)


# Runs ----------------------------------------------------------------------------------------------------

STARTS = {  # of runs that do not start from pre-training
    "albef": {"NLVR": "Pretrain_nlvr/checkpoint_00.pth"},
    "xvlm": {name: f"{name}_pretrain/model_state_epoch_latest.th" for name in ("NLVR", "Grounding_bbox", "Captioning")},
}
PRETRAINED = {"albef": "Pretrain/checkpoint_02.pth", "xvlm": "Pretrain/model_state_epoch_2.th"}
TEXT = {"albef": "bert_config", "xvlm": "text_config"}


YAML = [name for name, about in BASELINES.items() if isinstance(about, YamlTasks)]


@pytest.fixture(params=YAML)
def settings(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> TaskSettings:
    """Of a folder where every file that a command names is there."""
    made = parse(["--baseline", request.param, "--output", str(tmp_path), "--pretrain-epochs", "3", "--seed", "7"])
    about = BASELINES[made.baseline]
    for folder in ("refcoco+", "coco_karpathy"):
        (lists_of(made) / folder).mkdir(parents=True)
    names = [
        *("coco", "coco_train", "coco_val", "coco_test", "vqa_train", "vqa_val", "answer_list"),
        *(f"{each}_{split}" for each in ("ve", "nlvr") for split in ("train", "dev", "test")),
        *("refcoco+_train", "refcoco+_val", "refcoco+_test", "refcoco+/dets"),
        *(f"coco_karpathy/coco_karpathy_{each}" for each in ("train", "val", "test", "val_gt", "test_gt")),
    ]
    for name in names:
        (lists_of(made) / f"{name}.json").touch()
    for name in ("coco", "vg_regions", "refcoco_rm_leak"):
        (made.data / "lines" / name).mkdir(parents=True)
        (made.data / "lines" / name / "0.jsonl").touch()
        counts = {"rows": 900, "captions": 1900}
        (made.data / "lines" / f"{name}.manifest.json").write_text(json.dumps({"files": {"0.jsonl": counts}}))
    made.language_model.mkdir()
    (made.language_model / "config.json").write_text('{"vocab_size": 99}')
    for checkpoint in filter(None, (recipe.checkpoint for recipe in about.recipes(made).values())):
        checkpoint.parent.mkdir(exist_ok=True)
        checkpoint.touch()
    monkeypatch.chdir(REPOSITORY / made.baseline)
    return made


def read(settings: TaskSettings, name: str) -> dict[str, Any]:
    """What the script reads from the command of a run."""
    script, *argv = BASELINES[settings.baseline].arguments(settings, name)
    return resolved(get_baseline(settings.baseline).scripts[script.removesuffix(".py")].command, argv)


def test_every_command_is_one_that_its_script_reads(settings: TaskSettings) -> None:
    about = BASELINES[settings.baseline]
    runs = about.runs(settings)
    assert runs == ["Pretrain", *(name for task in about.tasks for name in about.needs.get(task, (task,)))]
    assert runs == list(about.recipes(settings))
    for name in runs:
        config = read(settings, name)
        assert config["output_dir"] == str(settings.output / name) and config["seed"] == 7
        text = config[TEXT[settings.baseline]]
        assert text["vocab_size"] == 99 and text["hidden_size"] < 768
        assert config["text_encoder"] == str(settings.language_model)
        assert config.get("evaluate", False) == (name == "zero_shot")
        start = STARTS[settings.baseline].get(name, PRETRAINED[settings.baseline])
        assert config["checkpoint"] == ("" if name == "Pretrain" else str(settings.output / start))
    assert read(settings, "VQA")["test_file"] in ([asked := str(lists_of(settings) / "vqa_val.json")], asked)


def test_streams_are_counted(tmp_path: Path, settings: TaskSettings) -> None:
    """An epoch of X-VLM is as long as train_dataset_size says."""
    if settings.baseline == "xvlm":
        assert read(settings, "Pretrain")["train_dataset_size"] == 900
        assert read(settings, "Grounding_bbox_pretrain")["train_dataset_size"] == 1900


@pytest.mark.parametrize(
    ("baseline", "stage", "other"), [("albef", "Pretrain_nlvr", "VE"), ("xvlm", "NLVR_pretrain", "VQA")]
)
def test_a_task_alone_needs_pre_training_and_its_own_runs(
    baseline: str, stage: str, other: str, tmp_path: Path
) -> None:
    given = ["--baseline", baseline, "--output", str(tmp_path)]
    one = parse([*given, "--tasks", "NLVR"])
    assert BASELINES[baseline].runs(one) == ["Pretrain", stage, "NLVR"]
    claim_output(one)
    claim_output(parse([*given, "--tasks", other]))  # joins
    with pytest.raises(SystemExit, match="holds tasks of other settings"):
        claim_output(parse([*given, "--train-images", "9"]))


def test_a_task_of_another_baseline_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        parse(["--baseline", "xvlm", "--tasks", "VE"])
    assert "VE: no task of xvlm, which has zero_shot, Retrieval" in capsys.readouterr().err


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
    words = {"test_CIDEr": 1.5, "test_Bleu_4": 0.5}
    (tmp_path / "results.json").write_text(json.dumps({"metrics": words, "items": {"test": 6}}))
    found = {score.metric: (score.value, score.blind) for score in scores("Captioning", tmp_path, lists)}
    assert found == {"test_CIDEr": (150.0, None), "test_Bleu_4": (50.0, None)}
