"""ALBEF on real photos with people's questions, statements and hypotheses, and their captions: the converters,
fine-tuning and evaluation.

Needs the folder that ``EPIC_REAL_PAIRS`` names (tests/launch/real_tasks.py).
"""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.launch import real_pairs
from tests.launch.albef.launcher import AlbefLauncher, Run
from tests.launch.albef.test_real_photos import launcher, photos, pytestmark, size, vanilla
from tests.launch.real_tasks import NLVR2, SNLI, WRITERS, Said, check_falls, check_whole_number
from tests.launch.test_real_photos import Photos
from vlp.data.json.convert import convert

__all__ = ["launcher", "photos", "pytestmark", "size", "vanilla"]
LISTS = {"nlvr2": ("nlvr", NLVR2), "snli": ("ve", SNLI)}
SCRIPTS = {"nlvr2": "NLVR", "snli": "VE"}
# Script -> passes over its training set, and how far the loss must fall; nothing but 30 steps was trained before.
PASSES = {"VQA": (4, 0.9), "NLVR": (40, 0.7), "VE": (3, 0.97), "Retrieval": (1, 1.05)}


@pytest.fixture(scope="module")
def said(launcher: AlbefLauncher) -> dict[str, list[Said]]:
    """By task: what people said; it lies in lists."""
    root = real_pairs.folder()
    assert root is not None
    found = {}
    for task, write in WRITERS.items():
        raw = launcher.data / "tasks" / task
        found[task] = write(root, raw)
        convert(task, raw, launcher.data / "lists", quiet=True)
    return found


def rows(launcher: AlbefLauncher, name: str) -> list[dict[str, Any]]:
    return json.loads((launcher.data / "lists" / f"{name}.json").read_text(encoding="utf-8"))


def finetune(launcher: AlbefLauncher, script: str, start: Run, *items: str) -> Run:
    rate = ("optimizer.lr=1e-3", "schedular.lr=1e-3", "schedular.warmup_epochs=0")
    passes = f"schedular.epochs={PASSES[script][0]}"
    return launcher.run(script, "--checkpoint", str(start.checkpoint), *rate, passes, *items)


def test_lists_hold_what_was_said(launcher: AlbefLauncher, said: dict[str, list[Said]]) -> None:
    for task, (name, splits) in LISTS.items():
        folder = launcher.data / "tasks" / task / ("Flickr30K/images" if task == "snli" else "")
        found = []
        for split, part in splits.items():
            for row in rows(launcher, f"{name}_{part.rstrip('1')}"):
                image = row["images"][0] if task == "nlvr2" else row["image"]
                found.append(Said(split, (folder / image).read_bytes(), row["sentence"].strip(), (row["label"],)))
        assert sorted(found) == sorted(said[task]), task


def test_statements_and_hypotheses_are_learnt_and_each_counts(
    launcher: AlbefLauncher, size: str, vanilla: Run, said: dict[str, list[Said]]
) -> None:
    for task, script in SCRIPTS.items():
        run = finetune(launcher, script, vanilla, size)
        check_falls(run.values("train/loss"), PASSES[script][1])
        for split in ("val", "test"):
            items = sum(each.split == split for each in said[task])
            assert run.results["items"][split] == items
            check_whole_number(run.results["metrics"][f"{split}_acc"], items)


def test_questions_are_learnt_and_each_is_answered(
    launcher: AlbefLauncher, size: str, vanilla: Run, said: dict[str, list[Said]]
) -> None:
    run = finetune(launcher, "VQA", vanilla, size, "k_test=4")
    check_falls(run.values("train/loss"), PASSES["VQA"][1])
    (path,) = (run.directory / "result").glob("vqa_result_*.json")
    written, asked = json.loads(path.read_text()), rows(launcher, "vqa_test")
    assert sorted(each["question_id"] for each in written) == sorted(row["question_id"] for row in asked)
    assert len(written) == sum(each.split == "test" for each in said["vqa"])
    assert {each["answer"] for each in written} <= set(rows(launcher, "answer_list"))


def test_retrieval_does_not_diverge_and_counts_every_caption_and_photo(
    launcher: AlbefLauncher, size: str, vanilla: Run, photos: Photos
) -> None:
    images = {split: [photo for photo in photos["coco"] if photo.split == split] for split in ("val", "test")}
    run = finetune(launcher, "Retrieval", vanilla, size, f"image_root={launcher.data / 'coco'}")
    check_falls(run.values("train/loss_ita"), PASSES["Retrieval"][1])
    for split, of in images.items():
        assert run.results["items"][split] == len(of)
        captions = sum(len(photo.captions) for photo in of)
        for way, count in (("img", captions), ("txt", len(of))):
            for k in (1, 5, 10):
                check_whole_number(run.results["metrics"][f"{split}_{way}_r{k}"] / 100, count)
