"""Real photos with people's questions, statements and hypotheses, and their captions, through the converters,
fine-tuning and evaluation of METER and ViLT.

Needs the folder that ``EPIC_REAL_PAIRS`` names (tests/launch/real_tasks.py).
"""

from __future__ import annotations

import importlib
import json
import math
from typing import Any

import pytest

from tests.launch import real_pairs
from tests.launch.launcher import Launcher, Result
from tests.launch.real_tasks import NLVR2, SNLI, WRITERS, Said, check_falls, check_whole_number
from tests.launch.test_real_photos import Photos, baseline, launcher, photos, pytestmark, vanilla
from tests.unit.data.raw import read_table
from vlp.data.arrow.rows import ENTAILMENT_LABELS
from vlp.evaluation.vqa import UNKNOWN

__all__ = ["baseline", "launcher", "photos", "pytestmark", "vanilla"]
# Task -> passes over its training set, and how far the loss must fall; nothing but 30 steps was trained before.
PASSES = {"vqa": (3, 0.5), "nlvr2": (40, 0.7), "snli": (3, 0.97), "irtr_coco": (1, 1.01)}
TABLES = {"nlvr2": NLVR2, "snli": SNLI}
LABELS = {number: label for label, number in ENTAILMENT_LABELS.items()}


def tasks_of(launcher: Launcher) -> list[str]:
    """Those of WRITERS that the baseline has."""
    return [task for task in WRITERS if task in launcher.baseline.datamodule.specs]


@pytest.fixture(scope="module")
def said(launcher: Launcher) -> dict[str, list[Said]]:
    """By task: what people said; it lies in tables that the baseline's own converters wrote."""
    root = real_pairs.folder()
    assert root is not None
    found = {}
    for task in tasks_of(launcher):
        raw = launcher.data / "tasks" / task
        found[task] = WRITERS[task](root, raw)
        module = importlib.import_module(f"{launcher.name}.utils.write_{task}")
        module.make_arrow(str(raw), str(launcher.data / "arrow"))
    return found


def finetune(launcher: Launcher, task: str, start: Result, *items: str) -> Result:
    passes, _ = PASSES[task]
    data = "coco" if task == "irtr_coco" else task
    own = (
        f"datasets=['{data}']",
        "max_steps=None",
        f"max_epoch={passes}",
        "warmup_steps=0.1",
        "val_check_interval=1.0",
    )
    last = (f"load_path={start.checkpoint}", "learning_rate=1e-3", "drop_rate=0.0", *items)
    return launcher.run(*launcher.finetuning(task), *launcher.items(*own, *last))


def evaluate(launcher: Launcher, task: str, tuned: Result, *items: str) -> Result:
    data = "coco" if task == "irtr_coco" else task
    own = (f"datasets=['{data}']", "test_only=True", f"load_path={tuned.checkpoint}", *items)
    return launcher.run(*launcher.finetuning(task), *launcher.items(*own))


def table(launcher: Launcher, name: str) -> list[dict[str, Any]]:
    return read_table(launcher.data / "arrow" / f"{name}.arrow")


def metrics(run: Result) -> dict[str, float]:
    return json.loads((run.directory / "results.json").read_text())["metrics"]


def test_tables_hold_the_photos_and_what_was_said(launcher: Launcher, said: dict[str, list[Said]]) -> None:
    for task, names in ((task, TABLES[task]) for task in said if task in TABLES):
        found = []
        for split, name in names.items():
            for row in table(launcher, f"{task}_{name}"):
                if task == "nlvr2":
                    texts = list(zip(row["questions"], row["answers"], strict=True))
                else:
                    texts = [(pair[1], LABELS[n]) for pair, n in zip(row["sentences"], row["labels"], strict=True)]
                image = row["image_0" if task == "nlvr2" else "image"]
                found += [Said(split, image, text.strip(), (label,)) for text, label in texts]
        assert sorted(found) == sorted(said[task]), task


def test_questions_keep_the_answers_that_are_frequent(launcher: Launcher, said: dict[str, list[Said]]) -> None:
    asked = {(each.split, each.image, each.text): each.answers for each in said["vqa"]}
    kept = 0
    for split in ("train", "val", "test"):
        questions = 0
        for row in table(launcher, f"vqav2_{split}"):
            answers = row["answers"] if split != "test" else [[] for _ in row["questions"]]
            for question, chosen in zip(row["questions"], answers, strict=True):
                assert set(chosen) <= set(asked[split, row["image"], question])
                questions, kept = questions + 1, kept + len(chosen)
        expected = sum(each.split == split for each in said["vqa"])
        assert questions == expected if split == "test" else 0 < questions < expected
    assert kept > 100


def test_statements_and_hypotheses_are_learnt_and_each_counts(
    launcher: Launcher, vanilla: Result, said: dict[str, list[Said]]
) -> None:
    for task in (task for task in said if task in TABLES):
        tuned = finetune(launcher, task, vanilla)
        check_falls(tuned.values(f"{task}/train/loss"), PASSES[task][1])
        found = metrics(evaluate(launcher, task, tuned))
        for split, part in (("val", "dev"), ("test", "test")):
            items = sum(each.split == split for each in said[task])
            check_whole_number(found[f"{task}/{part}/accuracy_epoch"], items)


def test_questions_are_learnt_and_each_is_answered(
    launcher: Launcher, vanilla: Result, said: dict[str, list[Said]]
) -> None:
    tuned = finetune(launcher, "vqa", vanilla)
    check_falls(tuned.values("vqa/train/loss"), PASSES["vqa"][1])
    run = evaluate(launcher, "vqa", tuned)
    results = json.loads((run.directory / "results.json").read_text())
    written = json.loads((run.log_dir / "vqa_submit_last.json").read_text())
    rows = table(launcher, "vqav2_test")
    assert sorted(each["question_id"] for each in written) == sorted(n for row in rows for n in row["question_id"])
    assert results["questions"] == len(written) == sum(each.split == "test" for each in said["vqa"])
    answers = {answer for each in said["vqa"] for answer in each.answers}
    assert {each["answer"] for each in written} <= answers | {UNKNOWN}


def test_retrieval_starts_from_chance_and_counts_every_caption_and_photo(
    launcher: Launcher, vanilla: Result, photos: Photos
) -> None:
    """After 30 steps of pre-training a photo says nothing yet of its caption: one of four is drawn."""
    slow = ("get_recall_metric=False", "draw_false_text=3", "learning_rate=1e-4")
    tuned = finetune(launcher, "irtr_coco", vanilla, *slow)
    losses = tuned.values("irtr/train/irtr_loss")
    assert sum(losses[:10]) / 10 == pytest.approx(math.log(4), rel=0.05)
    check_falls(losses, PASSES["irtr_coco"][1])
    found = metrics(evaluate(launcher, "irtr_coco", tuned, "get_recall_metric=True", "draw_false_text=1"))
    images = [photo for photo in photos["coco"] if photo.split == "test"]
    captions = sum(len(dict.fromkeys(photo.captions)) for photo in images)
    for way, count in (("ir", captions), ("tr", len(images))):
        one, five, ten = (found[f"recalls/{way}_r{k}"] for k in (1, 5, 10))
        assert one <= five <= ten and ten > 0
        for share in (one, five, ten):
            check_whole_number(share, count)
