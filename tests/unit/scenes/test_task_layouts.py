"""What is asked of the scenes, in the official raw layouts: the converters and data sets read back the truth."""

from __future__ import annotations

import json
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

from scenes.task_layouts import TASKS, write_tasks
from vlp.data.arrow.convert import make_arrow
from vlp.data.arrow.dataset import ArrowDataset
from vlp.data.arrow.datasets import build_dataset
from vlp.data.arrow.registry import Split
from vlp.data.transforms import build_transform

PARTS = {"train": ("train", "restval"), "val": ("val",), "test": ("test",)}


@pytest.fixture(scope="module")
def truth(root: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (root / "scenes_truth.jsonl").read_text().splitlines()]


@pytest.fixture(scope="module")
def arrow(root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tasks")
    write_tasks(root, folder / "raw")
    for task in TASKS:
        make_arrow(task, folder / "raw" / task, folder / "arrow")
    return folder / "arrow"


def samples(arrow: Path, task: str, split: Split) -> ArrowDataset:
    return build_dataset(task, split, arrow, [build_transform("clip", 32)])


def of(truth: list[dict[str, Any]], splits: tuple[str, ...], what: str) -> list[dict[str, Any]]:
    return [entry for record in truth if record["split"] in splits for entry in record[what]]


def test_statements(arrow: Path, truth: list[dict[str, Any]]) -> None:
    for split, splits in (("train", PARTS["train"]), ("test", PARTS["val"] + PARTS["test"])):
        dataset = samples(arrow, "nlvr2", split)  # type: ignore[arg-type]
        read = Counter((dataset[i]["text"], dataset[i]["answers"]) for i in range(len(dataset)))
        assert read == Counter((s["sentence"], s["label"]) for s in of(truth, splits, "statements"))
    tables = {dataset[i]["table_name"] for i in range(len(dataset))}
    assert tables == {"nlvr2_dev", "nlvr2_test1"}


def test_hypotheses(arrow: Path, truth: list[dict[str, Any]]) -> None:
    dataset, labels = samples(arrow, "snli", "train"), ("contradiction", "neutral", "entailment")
    read = Counter((dataset[i]["text"], labels[dataset[i]["labels"]]) for i in range(len(dataset)))
    assert read == Counter((e["hypothesis"], e["label"]) for e in of(truth, PARTS["train"], "entailments"))


def test_questions(arrow: Path, truth: list[dict[str, Any]]) -> None:
    test = samples(arrow, "vqa", "test")
    assert Counter(test[i]["text"] for i in range(len(test))) == Counter(
        question["question"] for question in of(truth, PARTS["test"], "questions")
    )
    assert len({test[i]["qid"] for i in range(len(test))}) == len(test)
    train = samples(arrow, "vqa", "train")
    asked = {
        1000 * record["cocoid"] + number: question
        for record in truth
        for number, question in enumerate(record["questions"])
    }
    for i in range(len(train)):
        sample = train[i]
        assert sample["text"] == asked[sample["qid"]]["question"]
        counts = Counter(asked[sample["qid"]]["answers"])
        best = dict(zip(sample["vqa_answer"], sample["vqa_scores"], strict=True))
        assert best == {answer: pytest.approx(min(1, 0.3 * counts[answer])) for answer in best}
    assert len(train) > 100


def test_both_images_of_a_pair_are_the_scenes(root: Path, arrow: Path, truth: list[dict[str, Any]]) -> None:
    dataset, transform = samples(arrow, "nlvr2", "test"), build_transform("clip", 32)
    of_id = {record["cocoid"]: record for record in truth}
    left = next(record for record in truth if record["split"] == "val")
    statement = left["statements"][0]
    sample = next(s for i in range(len(dataset)) if (s := dataset[i])["text"] == statement["sentence"])
    for key, record in (("image_0", left), ("image_1", of_id[statement["right_cocoid"]])):
        with Image.open(root / record["filepath"] / record["filename"]) as image:
            assert torch.equal(sample[key][0], transform(image.convert("RGBA"), None)), key


def test_the_command(root: Path, tmp_path: Path) -> None:
    def run(scenes: Path) -> subprocess.CompletedProcess[str]:
        command = [
            sys.executable,
            "-m",
            "scenes",
            "tasks",
            "--scenes",
            str(scenes),
            "--output",
            str(tmp_path / "out"),
        ]
        return subprocess.run(command, capture_output=True, text=True, check=False)

    absent = run(tmp_path / "nothing")
    assert absent.returncode == 1 and "scenes_truth.jsonl is missing" in absent.stderr
    assert run(root).returncode == 0
    assert {path.name for path in (tmp_path / "out").iterdir()} == set(TASKS)
    again = run(root)
    assert again.returncode == 1 and "is already there" in again.stderr
